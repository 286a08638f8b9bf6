/* A C library's way to the network that leads nowhere: preloaded, it writes each look-up of a host and each
 * connection to an internet address into $FAKE_NETWORK_LOG, a line each, and refuses it. Sockets of this machine
 * (AF_UNIX) go on working; with $FAKE_NETWORK_LOOPBACK its loopback address, too. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void record(const char *what, const char *where)
{
    const char *path = getenv("FAKE_NETWORK_LOG");
    char line[512];
    int length = snprintf(line, sizeof line, "%s %s\n", what, where ? where : "-");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file < 0)
        abort(); /* a call that cannot be recorded must not pass for none */
    if (write(file, line, length < (int)sizeof line ? length : (int)sizeof line) < 0)
        abort();
    close(file);
}

static int is_loopback(const struct sockaddr *address)
{
    return getenv("FAKE_NETWORK_LOOPBACK") && address->sa_family == AF_INET
        && ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
}

static int leads_out(const char *what, const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (!address || is_loopback(address))
        return 0;
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof text);
    else
        return 0;
    record(what, text);
    errno = ENETUNREACH;
    return 1;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (node && inet_pton(AF_INET, node, &address.sin_addr) == 1 && is_loopback((struct sockaddr *)&address))
        return real(node, service, hints, found); /* an address, not a name */
    record("getaddrinfo", node);
    return EAI_FAIL;
}

struct hostent *gethostbyname(const char *name)
{
    record("gethostbyname", name);
    h_errno = NO_RECOVERY;
    return NULL;
}

int connect(int socket, const struct sockaddr *address, socklen_t size)
{
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return leads_out("connect", address) ? -1 : real(socket, address, size);
}

ssize_t sendto(int socket, const void *data, size_t length, int flags, const struct sockaddr *address,
               socklen_t size)
{
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) =
        dlsym(RTLD_NEXT, "sendto");
    return leads_out("sendto", address) ? -1 : real(socket, data, length, flags, address, size);
}
