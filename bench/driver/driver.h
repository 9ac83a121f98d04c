/* The driver: the clients of one measurement, and the only judge of what arrived.
 *
 * It opens TLS connections, upgrades each, does one kind of work for a number of seconds, and writes one line of JSON:
 * what the server's process used of the CPU meanwhile (nanoseconds, from the process's own clock), how long things took,
 * and how busy the driver itself was. It never trusts the server: each frame is parsed, its header must be the shortest,
 * its text must be the message that was due for that client, and it must not come back to its sender (but for a server
 * that cannot do that: with to_sender=1 it must).
 *
 *   wire.c  TLS, frames, and the texts of the three protocols
 *   open.c  opening, closing and re-opening connections
 *   work.c  what the clients do
 *   main.c  what is asked for, and what is told
 */
#ifndef DRIVER_H
#define DRIVER_H
#define _GNU_SOURCE
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { EVENTS = 512, MOST = 256, STALL_MS = 20000, LARGEST = 32768 };
enum state { CLOSED, TLS, HEAD, GREET, JOIN, OPEN };

/* What is in a text message: the payload itself, a Socket.IO event, or a command of the Centrifuge protocol. */
enum dialect { PLAIN, SOCKETIO, CHANNEL };

struct options {
    const char *work, *path, *pid, *channel, *token;
    enum dialect dialect;
    int port, clients, depth, size, rooms, addresses, channels, to_sender, in_connect, turns;
    double seconds, rate, churn, rest;
};

struct client {
    SSL *ssl;
    int fd;
    enum state state;
    int room;               /* of chat; the channel's number on the channel protocol */
    int subscribes;         /* whether it joins its channel */
    int ignores;            /* what it gets is not looked at: the flooding one, and all once it is over */
    int counted;            /* in `open_count` */
    uint64_t due;           /* the number of the next message this client must get; NOTHING: none */
    int64_t sent_at;        /* of its own message: echo, flood */
    unsigned char *held;    /* an incomplete frame or head */
    size_t held_size;
    uint64_t asked;         /* the id of the last command */
    int64_t asked_at[MOST]; /* when a command or message was due to be sent, by its number % MOST */
};

#define NOTHING UINT64_MAX
#define SECOND 1000000000.0

extern struct options options;
extern struct client *clients;
extern int count, loop, open_count;
extern uint64_t missing; /* messages that are on their way */
extern int flooding; /* whether one more client sends all it can, while the others work */
extern uint64_t flooded, flood_closed;
extern void (*got_message)(struct client *, int64_t);
extern void (*got_answer)(struct client *, int64_t sent_at, int64_t now);

void fail(const char *what);
int64_t nanoseconds(clockid_t clock);
void sample(int64_t took);

/* wire.c */
void prepare_texts(void);
size_t message_frame(struct client *client, uint64_t number, unsigned char *frame);
size_t text_frame(const char *text, size_t size, unsigned char *frame);
void write_all(struct client *client, const void *data, size_t size);
int write_some(struct client *client, const void *data, size_t size);
void send_control(struct client *client, unsigned opcode, const unsigned char *payload, size_t size);
void send_text(struct client *client, const char *text);
int receive(struct client *client);
int ready(struct client *client, const char *text, size_t size);
size_t frame_room(void);

/* open.c */
void prepare_tls(void);
void open_all(int until, void (*opened)(int64_t took));
void begin_opening(struct client *client);
int go_on_opening(struct client *client);
void leave(struct client *client);
void close_all(void);

/* work.c */
int turn(int wait_ms);
uint64_t publish(double seconds, int depth, uint64_t *number);
uint64_t echo(double seconds);
uint64_t acknowledged(double seconds);
uint64_t chat(double seconds);
uint64_t paced(double seconds);
void rest(double seconds);
#endif
