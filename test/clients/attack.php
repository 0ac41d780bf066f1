// In place of what README.md's example tries: see test_clients.py.
$given = json_decode(getenv('TC_GIVEN'));
[$first, $second] = $given->tokens;
$gateway = connect('desk_gateway');
$app = connect('desk_app');

function code(callable $work): ?string
{
    try {
        $work();
    } catch (PDOException $error) {
        return $error->getCode();
    }
    return null;
}

$see = fn ($app) => $app->query('SELECT DISTINCT company_id FROM notes')->fetchAll(PDO::FETCH_COLUMN);
$told = ['statuses' => []];
foreach ($given->messages as [$body, $signature]) {
    $told['statuses'][] = receive($gateway, hex2bin($body), $signature);
}
$told['seen'] = [inCompany($app, $first, $see), inCompany($app, $second, $see)];
$told['no_begin'] = code(fn () => $app->prepare('SELECT tenantcall.enter_token(?)')->execute([$first]));
$told['bad_token'] = code(fn () => inCompany($app, $first . 'x', $see));
$told['in_the_middle'] = code(fn () => inCompany($app, $first, function ($app) {
    $app->exec("INSERT INTO notes (body) VALUES ('half')");
    $app->query('SELECT 1 / 0');
}));
$told['second_company'] = code(fn () => inCompany($app, $first,
    fn ($app) => $app->prepare('SELECT tenantcall.enter_token(?)')->execute([$second])));
$told['without'] = $app->query('SELECT count(*) FROM notes')->fetchColumn();
$told['right'] = $told['failed'] = 0;
for ($n = 0; $n < 40; $n++) {
    try {
        $told['right'] += inCompany($app, $given->tokens[$n % 2], function ($app) use ($see, $n) {
            if ($n % 5 == 0) {
                throw new DomainException('not today');
            }
            return $see($app);
        }) === [$given->companies[$n % 2]];
    } catch (DomainException) {
        $told['failed']++;
    }
}
$row = $app->query("SELECT 9007199254740993::bigint, '{\"a\": [1]}'::jsonb, '\\x00ff'::bytea")->fetch(PDO::FETCH_NUM);
$told['bigint'] = [(string) $row[0], json_decode($row[1])->a[0], bin2hex(stream_get_contents($row[2]))];
echo json_encode($told), "\n";
