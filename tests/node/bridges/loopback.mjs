// Preloaded into a program that can be told a port and no address: each port that it opens becomes a free one of this
// machine alone, and standard output is told which one it was and which it is.
import net from 'node:net';
import { writeSync } from 'node:fs';

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...given) {
    const [first] = given;
    const asked = Number(first !== null && typeof first === 'object' ? first.port : first);
    if (!Number.isInteger(asked)) return listen.apply(this, given);
    const listening = given.find((it) => typeof it === 'function');
    this.once('listening', () => writeSync(1, `port ${asked} is ${this.address().port}\n`));
    return listen.call(this, { host: '127.0.0.1', port: 0 }, listening);
};
