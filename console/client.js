/** The connection: the Feathers client on one socket, for all calls and events. */

const { feathers, io } = globalThis;
const AGAIN = 1_000;
const ackTimeout = 10_000;

export const NO_ANSWER = "The server did not answer. Check your connection and try again.";

export const socket = io({ transports: ["websocket", "polling"], tryAllTransports: true, ackTimeout });

// Feathers reads the limit under a name that the minified bundle does not keep.
socket._opts = { ackTimeout };

const transport = feathers.socketio(socket);

export const client = feathers()
  .hooks({ around: { all: [refuseOffline] } })
  .configure(transport)
  .configure(feathers.authentication({ storage: sessionStorage }))
  .use("contacts", transport.service("contacts"), {
    methods: ["find", "get", "create", "patch", "remove", "search"],
  });

// The socket reconnects by itself after a failure, but not if the server has closed it on purpose.
socket.on("disconnect", (reason) => {
  if (reason === "io server disconnect") setTimeout(() => socket.connect(), AGAIN);
});

/** Returns the text for an error: that of the server, or that there was no answer. */
export const sentence = (error) => (error.code ? error.message : NO_ANSWER);

/** Lets calls without a connection fail at once. Otherwise they would be sent after it returns, before the login. */
async function refuseOffline({ path }, next) {
  if (path !== "authentication" && !socket.connected) throw new feathers.errors.Unavailable(NO_ANSWER);
  await next();
}
