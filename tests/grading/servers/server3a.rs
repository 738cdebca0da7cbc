// Stage 3a in Rust: port
use std::io::{Read, Write};

fn main() {
    let port: u16 = std::env::args().nth(1).unwrap().parse().unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        let mut request = [0; 65536];
        let size = connection.read(&mut request).unwrap_or(0);
        if size > 0 {
            print!("{}", String::from_utf8_lossy(&request[..size]));
            std::io::stdout().flush().unwrap();
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\nHello\n");
        }
    }
}
