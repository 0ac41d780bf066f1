<?php
// What Composer would make: the framework of Debian's package, and the application's own classes.
require_once 'Illuminate/autoload.php';
spl_autoload_register(function (string $class): void {
    foreach (['App\\' => 'app/', 'Tests\\' => 'tests/'] as $prefix => $directory) {
        $file = __DIR__ . '/' . $directory . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
        if (str_starts_with($class, $prefix) && is_file($file)) {
            require $file;
        }
    }
});
