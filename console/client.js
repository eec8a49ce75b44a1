/** The connection: Feathers' own client on one socket, for all calls and all events. */

const { feathers, io } = globalThis;
const AGAIN = 1_000;
const ackTimeout = 10_000;

export const NO_ANSWER = "The server did not answer. Check your connection and try again.";

export const socket = io({ transports: ["websocket", "polling"], tryAllTransports: true, ackTimeout });

// Feathers reads the limit here, under a name that the minified bundle does not keep.
socket._opts = { ackTimeout };

const transport = feathers.socketio(socket);

export const client = feathers()
  .hooks({ around: { all: [refuseOffline] } })
  .configure(transport)
  .configure(feathers.authentication({ storage: sessionStorage }))
  .use("contacts", transport.service("contacts"), {
    methods: ["find", "get", "create", "patch", "remove", "search"],
  });

// By itself the socket returns after a failure, but not after a server that has closed it on purpose.
socket.on("disconnect", (reason) => {
  if (reason === "io server disconnect") setTimeout(() => socket.connect(), AGAIN);
});

/** What to say of an error: the server's sentence, or that there was none. */
export const sentence = (error) => (error.code ? error.message : NO_ANSWER);

/** Calls made without a connection fail at once, so that none is sent later, before the login is back. */
async function refuseOffline({ path }, next) {
  if (path !== "authentication" && !socket.connected) throw new feathers.errors.Unavailable(NO_ANSWER);
  await next();
}
