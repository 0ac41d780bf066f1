<?php
namespace App\Jobs;

use App\Jobs\Middleware\InCompany;
use App\Models\Note;
use Illuminate\Bus\Queueable;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Foundation\Bus\Dispatchable;
use Illuminate\Queue\InteractsWithQueue;
use Illuminate\Queue\SerializesModels;

// A job that carries a model, which is read back before the job has entered.
class Models implements ShouldQueue
{
    use Dispatchable, InteractsWithQueue, Queueable, SerializesModels;

    public function __construct(public int $companyId, public Note $note)
    {
    }

    public function middleware()
    {
        return [new InCompany];
    }

    public function handle()
    {
        file_put_contents(base_path('seen'), "model\n", FILE_APPEND);
    }
}
