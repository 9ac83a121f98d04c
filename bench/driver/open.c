/* Opening, closing and re-opening connections: TLS 1.3, the upgrade, and what a protocol says first. */
#include "driver.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static SSL_CTX *context;

/* The same cipher, group and certificate for every server: what differs is the server. */
void prepare_tls(void) {
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    SSL_CTX_set1_groups_list(context, "X25519");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
}

/* Each address has a few thousand of the clients, so that its ports suffice. */
static void bind_source(int fd, int number) {
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number % options.addresses));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address)) fail("bind");
}

static void watch(struct client *client) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(client - clients)};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, client->fd, &event)) fail("epoll_ctl");
}

void begin_opening(struct client *client) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0) fail("socket");
    bind_source(client->fd, client->ignores ? options.addresses + 1 : (int)(client - clients));
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    client->ssl = SSL_new(context);
    SSL_set_fd(client->ssl, client->fd);
    SSL_set_tlsext_host_name(client->ssl, "localhost");
    client->state = TLS;
    client->asked = 0;
    watch(client);
    SSL_connect(client->ssl); /* sends the ClientHello; all else waits for what comes */
    ERR_clear_error();        /* where the server has closed already, that is found out with the next step */
}

/* Where there are rooms, the path ends with the room's number. */
static void send_request(struct client *client) {
    char text[8192], room[16] = "";
    const char *bearer = options.in_connect ? NULL : options.token;
    if (options.rooms && options.dialect != CHANNEL) snprintf(room, sizeof room, "%d", client->room);
    int size = snprintf(text, sizeof text,
                        "GET %s%s HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                        options.path, room, options.port, bearer ? "Authorization: Bearer " : "", bearer ? bearer : "",
                        bearer ? "\r\n" : "");
    write_all(client, text, (size_t)size);
    client->state = HEAD;
}

static void forget(struct client *client) {
    if (client->counted) open_count--;
    client->counted = 0;
    SSL_shutdown(client->ssl);
    ERR_clear_error();
    SSL_free(client->ssl);
    close(client->fd);
    free(client->held);
    client->held = NULL;
    client->held_size = 0;
    client->ssl = NULL;
    client->state = CLOSED;
}

/* The flooding client may be refused or closed; nobody else may. */
static int give_up(struct client *client, const char *what) {
    if (!client->ignores) fail(what);
    forget(client);
    return 0;
}

/* Take one step of opening; return whether the client is open. */
int go_on_opening(struct client *client) {
    if (client->state == TLS) {
        int done = SSL_connect(client->ssl);
        if (done != 1) {
            int error = SSL_get_error(client->ssl, done);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return give_up(client, "TLS");
            return 0;
        }
        if (SSL_version(client->ssl) != TLS1_3_VERSION || SSL_session_reused(client->ssl))
            fail("not a full TLS 1.3 handshake");
        send_request(client);
    }
    if (!receive(client) || client->state == CLOSED)
        return give_up(client, "the server ended a connection that was opening");
    if (client->state == OPEN && !client->counted) open_count += client->counted = 1;
    return client->state == OPEN;
}

/* Go on with what a protocol says first; `text` is what the server said. Return whether that was in order. */
int ready(struct client *client, const char *text, size_t size) {
    static char command[8192];
    if (options.dialect == SOCKETIO) {
        if (client->state == GREET && *text == '0') {
            send_text(client, "40");
            client->state = JOIN;
        } else if (client->state == JOIN && size >= 2 && !memcmp(text, "40", 2)) {
            client->state = OPEN;
        } else {
            return 0;
        }
        return 1;
    }
    if (options.dialect != CHANNEL) return 0;
    if (!text) {
        const char *token = options.in_connect ? options.token : NULL;
        snprintf(command, sizeof command, "{\"id\":%llu,\"connect\":{%s%s%s}}", (unsigned long long)++client->asked,
                 token ? "\"token\":\"" : "", token ? token : "", token ? "\"" : "");
        send_text(client, command);
    } else if (client->state == GREET && memmem(text, size, "\"connect\"", 9)) {
        client->state = client->subscribes ? JOIN : OPEN;
        if (!client->subscribes) return 1;
        snprintf(command, sizeof command, "{\"id\":%llu,\"subscribe\":{\"channel\":\"%s%d\"}}",
                 (unsigned long long)++client->asked, options.channel, client->room);
        send_text(client, command);
    } else if (client->state == JOIN && memmem(text, size, "\"subscribe\"", 11)) {
        client->state = OPEN;
    } else {
        return 0;
    }
    return 1;
}

/* Open connections one after another until there are so many. */
void open_all(int until, void (*opened)(int64_t)) {
    for (; count < until; count++) {
        struct client *client = &clients[count];
        int64_t start = nanoseconds(CLOCK_MONOTONIC);
        begin_opening(client);
        struct pollfd readable = {.fd = client->fd, .events = POLLIN};
        while (!go_on_opening(client))
            if (poll(&readable, 1, STALL_MS) <= 0) fail("no answer while opening");
        if (opened) opened(nanoseconds(CLOCK_MONOTONIC) - start);
        /* Thousands take longer to open than a server waits for an answer to its ping. */
        if (count % 256 == 255) turn(0);
    }
}

static void say_goodbye(struct client *client) {
    static const unsigned char normal[2] = {0x03, 0xe8};
    if (!client->ignores) send_control(client, 8, normal, 2); /* else what it has not sent is in the way */
}

/* Close one connection from this side, as a page does that is left. */
void leave(struct client *client) {
    if (client->state == OPEN) say_goodbye(client);
    if (client->ssl) forget(client);
}

/* Say goodbye to all and wait until the server has closed, so that the next measurement finds it at rest. */
void close_all(void) {
    struct epoll_event events[EVENTS];
    for (int i = 0; i < count; i++) {
        if (clients[i].state == OPEN) say_goodbye(&clients[i]);
        if (clients[i].ssl && clients[i].ignores) forget(&clients[i]);
        if (clients[i].ssl) clients[i].ignores = 1; /* what still comes does not matter */
    }
    int64_t patience = nanoseconds(CLOCK_MONOTONIC) + 3000000000;
    while (open_count && nanoseconds(CLOCK_MONOTONIC) < patience) {
        int found = epoll_wait(loop, events, EVENTS, 100);
        for (int i = 0; i < found; i++) {
            struct client *client = &clients[events[i].data.u32];
            if (client->ssl && (!receive(client) || client->state == CLOSED)) forget(client);
        }
    }
}
