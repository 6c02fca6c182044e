//! Preloaded (`node --import`) into a server that would listen on every interface: it listens on 127.0.0.1 instead,
//! and says on its standard error which port it got, so that the port may be 0. It changes nothing else.
import net from 'node:net';

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...args) {
  // The forms in use: listen(port, …) and listen({port, …}); Node's own cluster and pipe forms pass untouched.
  if (typeof args[0] === 'object' && args[0] !== null && 'port' in args[0]) {
    args[0] = { ...args[0], host: '127.0.0.1' };
  } else if (/^\d+$/.test(String(args[0]))) {
    const callback = args.findLast(arg => typeof arg === 'function');
    args = [{ port: Number(args[0]), host: '127.0.0.1' }, ...(callback ? [callback] : [])];
  }
  this.once('listening', () => {
    const address = this.address();
    if (address !== null && typeof address === 'object') {
      process.stderr.write(`interop-listening ${address.address}:${address.port}\n`);
    }
  });
  return listen.apply(this, args);
};
