// kinesalite on a free port of 127.0.0.1 (its own command listens everywhere). Prints the port; ends when its input does, so with whoever
// started it.
const kinesalite = require("kinesalite");

const server = kinesalite({ createStreamMs: 20, deleteStreamMs: 20, updateStreamMs: 20, shardLimit: 1000 });
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit(0));
