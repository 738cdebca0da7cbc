// Stage 3a in Java: port
import java.net.*;

class Server3a {
    public static void main(String[] arguments) throws Exception {
        InetAddress loopback = InetAddress.getByName("127.0.0.1");
        ServerSocket listener = new ServerSocket(Integer.parseInt(arguments[0]), 5, loopback);
        byte[] request = new byte[65536];
        while (true) {
            Socket connection = listener.accept();
            try {
                int size = connection.getInputStream().read(request);
                if (size > 0) {
                    connection.getOutputStream().write("HTTP/1.1 200 OK\r\n\r\nHello\n".getBytes());
                    System.out.println(new String(request, 0, size));
                }
            } catch (SocketException error) {
                // the client is gone
            }
            connection.close();
        }
    }
}
