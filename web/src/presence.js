/*
 * Who is in a room: people, however many tabs each has. The server tells of connections; a person is here as long as
 * one of theirs is.
 */

export class Presence {
  #users = new Map();

  /** The names of those who are here, in order. */
  get names() {
    return [...new Set(this.#users.values())].sort((a, b) => a.localeCompare(b));
  }

  has(user) {
    return this.names.includes(user);
  }

  /** Take in the server's answer: `clients` maps connections to `{user}`. */
  replace(clients) {
    this.#users = new Map(Object.entries(clients).map(([client, { user }]) => [client, user]));
  }

  /** Note a connection that came. */
  joined({ client, user }) {
    this.#users.set(client, user);
  }

  /**
   * Note a connection that left. Returns whether the person may be gone though another connection of theirs is still
   * noted: a server that tells of people, once, has not told of each of their connections.
   */
  left({ client, user }) {
    this.#users.delete(client);
    return this.has(user);
  }

  clear() {
    this.#users.clear();
  }
}
