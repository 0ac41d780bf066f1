<?php
// Dispatches jobs of two companies; some fail, some do not enter, one carries a model.
require __DIR__ . '/autoload.php';
$app = require __DIR__ . '/bootstrap/app.php';
$app->make(Illuminate\Contracts\Console\Kernel::class)->bootstrap();
foreach (range(1, 12) as $n) {
    App\Jobs\CallBack::dispatch(1 + $n % 2, "job $n");
    App\Jobs\Look::dispatch(1 + $n % 2, ['sees', 'fails', 'not inside'][$n % 3]);
}
App\Tenancy::within(App\Tenancy::token(1), fn () => App\Jobs\Models::dispatch(1, App\Models\Note::first()));
