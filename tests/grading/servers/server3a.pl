# Stage 3a in Perl: port
use strict;
use IO::Socket::INET;
$| = 1;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$ARGV[0]", Listen => 5,
                                     ReuseAddr => 1) or die "cannot listen: $!\n";
while (my $connection = $listener->accept) {
    sysread $connection, my $request, 65536;
    print $request;
    syswrite $connection, "HTTP/1.1 200 OK\r\n\r\nHello\n" if length $request;
    close $connection;
}
