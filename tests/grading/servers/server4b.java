// 4b, in a runtime that has threads of its own.
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;

class Server4b {
    static volatile int requests = 0;

    public static void main(String[] arguments) throws Exception {
        int delay = Integer.parseInt(arguments[1]);
        InetAddress host = InetAddress.getByName("127.0.0.1");
        ServerSocket listener = new ServerSocket(Integer.parseInt(arguments[0]), 128, host);
        while (true) {
            Socket connection = listener.accept();
            new Thread(() -> serve(connection, delay)).start();
        }
    }

    static void serve(Socket socket, int delay) {
        try (Socket connection = socket) {
            byte[] request = new byte[65536];
            int length = connection.getInputStream().read(request);
            if (length > 0) {
                connection.getOutputStream().write("HTTP/1.1 200 OK\r\n\r\nHello!\n".getBytes());
                int number = requests + 1;
                System.out.println("Request " + number + ": " + new String(request, 0, length).split("\r")[0]);
                Thread.sleep(1000L * delay);
                requests = number;
            }
        } catch (Exception error) {
            // the client is gone
        }
    }
}
