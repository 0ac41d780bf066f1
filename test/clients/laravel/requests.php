<?php
// Handles requests one after the other in one process, as Octane does; prints [status, body] of each.
// Standard input: JSON, [[method, path, company or null, body in base64, signature or null], ...]
require __DIR__ . '/autoload.php';
$app = require __DIR__ . '/bootstrap/app.php';
$kernel = $app->make(Illuminate\Contracts\Http\Kernel::class);
$kernel->bootstrap();
$answers = [];
foreach (json_decode(stream_get_contents(STDIN)) as [$method, $path, $company, $body, $signature]) {
    $server = ['HTTP_ACCEPT' => 'application/json', 'CONTENT_TYPE' => 'application/json'];
    if ($company !== null) {
        $server['HTTP_AUTHORIZATION'] = 'Bearer ' . (is_int($company) ? App\Tenancy::token($company) : $company);
    }
    if ($signature !== null) {
        $server['HTTP_X_RETELL_SIGNATURE'] = $signature;
    }
    $request = Illuminate\Http\Request::create("/api/$path", $method, [], [], [], $server, base64_decode($body));
    $response = $kernel->handle($request);
    ob_start();
    $response->sendContent();
    $answers[] = [$response->getStatusCode(), ob_get_clean(), $response->headers->get('Retry-After')];
    $kernel->terminate($request, $response);
}
echo json_encode($answers), "\n";
