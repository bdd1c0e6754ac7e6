# A CPU-bound Perl job: hashes, regular expressions, string building, sorting.
use strict;
use warnings;

my ($seed, %counts) = (42);
for (1 .. 6_000_000) {
    $seed = ($seed * 1103515245 + 12345) % 2147483648;
    $counts{ "w" . $seed % 5000 }++;
}
my $text = join " ", map { "$_=$counts{$_}" } sort keys %counts;
my $matches = 0;
for (1 .. 40) { $matches++ while $text =~ /w(\d*7)=(\d+)/g }
my $sum = 0;
for my $i (1 .. 18_000_000) { $sum += ( $i ^ ( $i >> 3 ) ) & 255 }
print scalar( keys %counts ), " $matches $sum\n";
