<?php
// Controllers that go wrong in their ways: see test_laravel.py.
use App\Http\Middleware\EnterCompany;
use App\Jobs\CallBack;
use App\Models\Note;
use App\Tenancy;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\Facades\Route;

Route::get('/outside', fn () => ['notes' => Note::count()]);
Route::post('/outside', fn () => Note::create(['body' => 'half']));
Route::middleware(EnterCompany::class)->group(function () {
    Route::get('/throws', function () {
        Note::create(['body' => 'half']);
        CallBack::dispatch(1, 'nobody');
        throw new DomainException('not today');
    });
    Route::get('/aborts', function () {
        Note::create(['body' => 'half']);
        abort(422);
    });
    Route::get('/divides', function () {
        Note::create(['body' => 'half']);
        DB::select('SELECT 1 / 0');
    });
    Route::get('/recovers', function () {
        try {
            DB::transaction(fn () => DB::select('SELECT 1 / 0'));
        } catch (Illuminate\Database\QueryException) {
        }

        return ['notes' => Note::count()];
    });
    Route::get('/switches', fn () => Tenancy::within(Tenancy::token(2), fn () => Note::all()));
    Route::get('/steals', fn () => DB::table('notes')->insert(['company_id' => 2, 'body' => 'half']));
    Route::get('/streams', fn () => response()->stream(function () {
        echo Note::count();
    }));
});
