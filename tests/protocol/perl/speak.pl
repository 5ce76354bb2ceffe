# What the test has the client do: perl speak.pl SOCKET TABLE. Prints one JSON object: what came back.

use strict;
use warnings;
use utf8;
use FindBin;
require "$FindBin::Bin/client.pl";

my ($path, $table) = @ARGV;
my $client = Client->new($path, 'perl client');
my %told = (welcome => [@{ $client->{welcome} }[0, 1]]);

my $sql = 'select $1::int as i, $2::text as t, null::int as n, $3::bool as b, $4::float8 as f, $5::numeric as d';
my @rows = $client->ask(
    ['fetch', $sql, [i(42), 'Grüße', b(1), f(0.5), ext(2, '1.10')]],
    ['fetch', $sql, [i(43), 'x', b(0), f(-2), ext(2, '0')]],
);
$told{rows}  = [map { $_->[4] } @rows];
$told{names} = [map { $_->[0] } @{ $client->columns($rows[0]) }];

my @many = $client->ask(map { ['fetch', 'select 10 / ($1::int - 25) as q', [i($_)]] } 1 .. 50);
my @failed = grep { $_->[0] eq 'failed' } @many;
$told{many} = {
    rows     => scalar(grep { $_->[0] eq 'rows' } @many),
    failed   => scalar @failed,
    sqlstate => [map { $_->[5]{sqlstate} } @failed],
};

my $batch = $client->ask(['batch', [["insert into $table values (1, 'one')", []], ["table $table", []]]]);
$told{batch} = [[@{ $batch->[2][0] }[0 .. 2]], [@{ $batch->[2][1] }[0, 1]]];

my $granted = $client->ask(['acquire', f(30)]);
my $lease = [map { i($_) } @{ $granted->[2] }];
my $pid = $client->ask(['fetch', 'select pg_backend_pid()', [], i(0), $lease])->[4][0][0];
$told{same} = $pid == $granted->[4] ? JSON::PP::true() : JSON::PP::false();
$told{tags} = [
    map { $client->ask(['execute', @$_, $lease])->[2] }
        ['begin', []], ["insert into $table values (\$1, \$2)", [i(2), 'two']], ['commit', []]
];
$client->ask(['execute', "begin; insert into $table values (3, 'three')", [], $lease]);
$client->tell(['release', $lease]);
$told{released} = $client->ask(['fetch', 'select 1', [], i(0), $lease])->[2];
$client->tell(['bye']);

print JSON::PP->new->utf8->encode(\%told);
