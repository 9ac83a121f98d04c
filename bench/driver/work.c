/* What the clients do. Every function works for some seconds and returns how many units of work that was. */
#include "driver.h"
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

void (*got_message)(struct client *, int64_t);
void (*got_answer)(struct client *, int64_t, int64_t);
int flooding;
uint64_t flooded, flood_closed;

static int64_t now_ns(void) { return nanoseconds(CLOCK_MONOTONIC); }

/* One turn: read whatever has come.
 *
 * It asks again and again rather than sleep: to wake a sleeping process on the same machine costs the server's process
 * microseconds, which clients on other machines would not, and the more the slower the server is. */
int turn(int wait_ms) {
    struct epoll_event events[EVENTS];
    int found = epoll_wait(loop, events, EVENTS, wait_ms);
    for (int i = 0; i < found; i++) {
        struct client *client = &clients[events[i].data.u32];
        if (!client->ssl) continue;
        if (client->state != OPEN) {
            go_on_opening(client);
        } else if (!receive(client) || client->state == CLOSED) {
            if (!client->ignores) fail("the server ended a connection");
            flood_closed++;
            leave(client);
        }
    }
    return found;
}

static void wait_for_all(void) {
    int64_t patience = now_ns() + (int64_t)STALL_MS * 1000000;
    while (missing)
        if (!turn(0) && now_ns() > patience) fail("messages did not arrive");
}

/* fanout: the first client publishes `depth` messages in one write, and the next when all have them. */
uint64_t publish(double seconds, int depth, uint64_t *numbers) {
    static int next;
    struct client *sender = &clients[0];
    unsigned char *data = malloc((size_t)depth * frame_room());
    uint64_t deliveries = 0;
    int64_t end = now_ns() + (int64_t)(seconds * SECOND), now;
    got_message = NULL;
    while ((now = now_ns()) < end) {
        size_t size = 0;
        for (int i = 0; i < depth; i++, next++) {
            int channel = sender->room = next % options.channels;
            size += message_frame(sender, numbers[channel]++, data + size);
            /* The clients from the second on are dealt to the channels in turn. */
            int members = (count - 1) / options.channels + (channel < (count - 1) % options.channels);
            missing += (uint64_t)(members + options.to_sender);
        }
        deliveries += missing;
        if (!options.to_sender) sender->due = NOTHING;
        write_all(sender, data, size);
        wait_for_all();
        sample(now_ns() - now);
    }
    free(data);
    return deliveries;
}

/* echo: every client sends, waits for its own message, and sends the next. */

static int64_t end_at;
static uint64_t units;

static void send_own(struct client *client, int64_t now) {
    unsigned char frame[LARGEST + 512];
    client->sent_at = now;
    missing++;
    write_all(client, frame, message_frame(client, client->due, frame));
}

static void echo_next(struct client *client, int64_t now) {
    sample(now - client->sent_at);
    units++;
    if (now < end_at) send_own(client, now);
}

uint64_t echo(double seconds) {
    end_at = now_ns() + (int64_t)(seconds * SECOND);
    units = 0;
    got_message = echo_next;
    for (int i = 0; i < count; i++) send_own(&clients[i], now_ns());
    wait_for_all();
    return units;
}

/* publish: every client keeps `depth` publishes in flight, and sends the next when one is acknowledged. */

static void ask(struct client *client) {
    unsigned char frame[LARGEST + 512];
    missing++;
    write_all(client, frame, message_frame(client, client->asked, frame));
}

static void ask_next(struct client *client, int64_t sent_at, int64_t now) {
    sample(now - sent_at);
    units++;
    missing--;
    if (now < end_at) ask(client);
}

uint64_t acknowledged(double seconds) {
    end_at = now_ns() + (int64_t)(seconds * SECOND);
    units = 0;
    got_answer = ask_next;
    for (int i = 0; i < count; i++)
        for (int n = 0; n < options.depth; n++) ask(&clients[i]);
    wait_for_all();
    return units;
}

/* chat: messages come to each room at random times, from a random member; some clients come and go all the time. What
 * counts is the time from when a message was due to be sent. A room's next message waits until all have its last. */

struct room {
    int64_t due_at, planned;
    uint64_t number, missing;
};

static struct room *rooms;
static uint64_t seed = 0x9e3779b97f4a7c15;

static double chance(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (double)(seed >> 11) / (double)(1ULL << 53);
}

/* Between 0 and 2 of the mean, so that no room is silent for the whole run. */
static int64_t interval(double mean) { return (int64_t)(2 * chance() * mean * SECOND); }

static void heard(struct client *client, int64_t now) {
    struct room *room = &rooms[client->room];
    sample(now - room->planned);
    room->missing--;
    units++;
}

static void say(int which, int64_t now) {
    struct room *room = &rooms[which];
    unsigned char frame[LARGEST + 512];
    int members = options.clients / options.rooms;
    struct client *sender = &clients[which + options.rooms * (int)(chance() * members)];
    room->planned = room->due_at;
    room->due_at = now + interval(options.rooms / options.rate);
    room->missing = (uint64_t)(members - !options.to_sender);
    missing += room->missing;
    size_t size = message_frame(sender, room->number++, frame);
    if (!options.to_sender) sender->due = room->number;
    write_all(sender, frame, size);
}

uint64_t chat(double seconds) {
    if (!rooms) rooms = calloc((size_t)options.rooms, sizeof *rooms);
    int64_t end = now_ns() + (int64_t)(seconds * SECOND), now, churn_at = 0;
    int come_and_go = count - options.clients, next = 0;
    for (int i = 0; i < options.rooms; i++) rooms[i].due_at = now_ns() + interval(options.rooms / options.rate);
    units = 0;
    got_message = heard;
    while ((now = now_ns()) < end) {
        for (int i = 0; i < options.rooms; i++)
            if (rooms[i].due_at <= now && !rooms[i].missing) say(i, now);
        struct client *client = &clients[options.clients + next];
        if (come_and_go && churn_at <= now && client->state == OPEN) {
            churn_at = now + (int64_t)(SECOND / options.churn);
            leave(client);
            begin_opening(client);
            next = (next + 1) % come_and_go;
        }
        turn(0);
    }
    wait_for_all();
    for (int i = options.clients; i < count; i++)
        while (clients[i].state != OPEN) turn(0);
    return units;
}

/* flood: every client sends at its own times and gets its message back; one more sends all it can. What counts is the
 * time from when a message was due to be sent, whether or not the last one has come back. */

static void answered(struct client *client, int64_t now) {
    sample(now - client->asked_at[(client->due - 1) % MOST]);
    units++;
}

static void flood(struct client *client, int64_t now) {
    static unsigned char data[64 * (LARGEST + 512)];
    static size_t size, at, frames;
    static int64_t again_at;
    if (!size)
        for (frames = 0; frames < 64 && size < 16000; frames++) size += message_frame(client, 0, data + size);
    if (!client->ssl && now >= again_at) {
        again_at = now + 100000000;
        at = 0;
        begin_opening(client);
    }
    if (client->state != OPEN) return;
    int written = write_some(client, data + at, size - at);
    if (written < 0) {
        flood_closed++;
        leave(client);
    } else if ((at += (size_t)written) == size) {
        flooded += frames;
        at = 0;
    }
}

uint64_t paced(double seconds) {
    int64_t start = now_ns(), end = start + (int64_t)(seconds * SECOND), now;
    double gap = SECOND / (options.rate * options.clients);
    unsigned char frame[LARGEST + 512];
    units = 0;
    got_message = answered;
    for (uint64_t sent = 0; (now = now_ns()) < end;) {
        int64_t due_at = start + (int64_t)((double)sent * gap);
        if (due_at <= now) {
            struct client *client = &clients[sent++ % (uint64_t)options.clients];
            uint64_t number = client->asked++;
            if (number - client->due >= MOST) fail("a client waits for too many of its messages");
            client->asked_at[number % MOST] = due_at;
            missing++;
            write_all(client, frame, message_frame(client, number, frame));
        }
        if (flooding) flood(&clients[options.clients], now);
        turn(0);
    }
    wait_for_all();
    return units;
}

/* rest: nobody says anything; pings are answered. */
void rest(double seconds) {
    int64_t end = now_ns() + (int64_t)(seconds * SECOND);
    while (now_ns() < end) turn(20);
}
