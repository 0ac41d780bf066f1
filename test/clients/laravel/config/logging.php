<?php
return ['default' => 'null', 'deprecations' => 'null', 'channels' => ['null' => [
    'driver' => 'monolog', 'handler' => Monolog\Handler\NullHandler::class]]];
