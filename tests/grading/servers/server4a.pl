# 4a, whose workers take turns in accept: one has the lock, and waits for a client.
use strict;
use warnings;
use Fcntl ':flock';
use IO::Socket::INET;

my ($port, $delay) = @ARGV;
$| = 1;
$SIG{PIPE} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$port", Listen => 128, ReuseAddr => 1) or die "listen: $!";

sub work {
    open my $turn, '<', $0 or die "open: $!";
    for (my $count = 1;; ) {
        flock $turn, LOCK_EX;
        my $connection = $listener->accept;
        flock $turn, LOCK_UN;
        next unless $connection;
        if (sysread $connection, my $request, 65536) {
            syswrite $connection, "HTTP/1.1 200 OK\r\n\r\nHello!\n";
            print "request $count [", $request =~ /(.*)\r/, "]\n";
            sleep $delay;
            $count++;
        }
        close $connection;
    }
}

for (my $workers = 0;; $workers -= wait > 0) {
    for (; $workers < 4; $workers++) {
        work if fork == 0;
    }
}
