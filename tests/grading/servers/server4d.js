// 4d: what is awaited lets the others run. Node has seven threads before there is a client.
const net = require("net");
const port = Number(process.argv[2]);
const delay = 1000 * Number(process.argv[3]);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
let requests = 0;

function receive(connection) {
  return new Promise((resolve) => {
    connection.once("data", resolve);
    for (const event of ["end", "error"]) connection.on(event, () => resolve(null));
  });
}

async function serve(connection) {
  const request = await receive(connection);
  if (request) {
    connection.write("HTTP/1.1 200 OK\r\n\r\nHello!\n");
    const number = requests + 1;
    requests = number;
    console.log(`Request ${number}: ${request.toString().split("\r")[0]}`);
    await sleep(delay);
  }
  connection.end();
}

net.createServer({ allowHalfOpen: true }, serve).listen(port, "127.0.0.1");
