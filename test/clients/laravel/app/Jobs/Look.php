<?php
namespace App\Jobs;

use App\Jobs\Middleware\InCompany;
use App\Models\Note;
use DomainException;
use Illuminate\Bus\Queueable;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Foundation\Bus\Dispatchable;
use Illuminate\Queue\InteractsWithQueue;

// A job that notes what it sees; that fails halfway; or that forgets to enter.
class Look implements ShouldQueue
{
    use Dispatchable, InteractsWithQueue, Queueable;

    public function __construct(public int $companyId, public string $how)
    {
    }

    public function middleware()
    {
        return $this->how === 'not inside' ? [] : [new InCompany];
    }

    public function handle()
    {
        $seen = implode(' ', Note::distinct()->pluck('company_id')->all());
        file_put_contents(base_path('seen'), "$this->how $this->companyId: $seen\n", FILE_APPEND);
        Note::create(['body' => 'half']);
        if ($this->how === 'fails') {
            throw new DomainException('not today');
        }
        Note::where('body', 'half')->delete();
    }
}
