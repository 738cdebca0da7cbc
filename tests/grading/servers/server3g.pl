# Stage 3g in Perl: port
use strict;
use Errno;
use IO::Socket::INET;
use POSIX ":sys_wait_h";
$| = 1;
$SIG{CHLD} = sub { 1 while waitpid(-1, WNOHANG) > 0 };
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$ARGV[0]", Listen => 1024,
                                     ReuseAddr => 1) or die "cannot listen: $!\n";
while (1) {
    my $connection = $listener->accept;
    next if !$connection && $!{EINTR};
    if (fork == 0) {
        close $listener;
        sysread $connection, my $request, 65536;
        print $request;
        syswrite $connection, "HTTP/1.1 200 OK\r\n\r\nHello\n" if length $request;
        POSIX::_exit(0);
    }
    close $connection;
}
