/* tour.c: a request for each part of the interface. tour.rs and tour.ts do the same. */
#include <stdio.h>

#include "http_hostcalls.h"

static char text[4096];

static void send_to(const char *path, pending_request_t *pending) {
    char url[64];
    int n = snprintf(url, sizeof url, "http://there.test%s", path);
    request_t req = hostcall_req_create("GET", 3, url, (size_t)n);
    *pending = hostcall_req_send_async(req);
}

static void echo(const char *path) {
    char *method, *name = lucet_request_header("X-Name");
    uint8_t *body;
    size_t n, m, names;
    struct string_slice *headers;
    hostcall_req_get_method(&method, &n, REQUEST_INCOMING);
    hostcall_req_get_body(&body, &m, REQUEST_INCOMING);
    hostcall_req_get_headers(&headers, &names, REQUEST_INCOMING);
    snprintf(text, sizeof text, "%s %s %.*s %s %d", method, path, (int)m, body, name ? name : "nobody", (int)names);
    lucet_response_header("X-Kind", "echo");
    lucet_respond(201, text);
}

static void count(void) {
    uint8_t *value;
    size_t n;
    long number = 0;
    if (hostcall_kvstore_get(&value, &n, "count", 5))
        number = strtol((char *)value, NULL, 10);
    int size = snprintf(text, sizeof text, "%ld", number + 1);
    bool was_absent = hostcall_kvstore_insert("count", 5, text, (size_t)size);
    snprintf(text, sizeof text, "%ld %s", number + 1, was_absent ? "first" : "again");
    lucet_respond(200, text);
}

static void fetch(void) {
    pending_request_t pending[2], which;
    send_to("/one", &pending[0]);
    send_to("/two", &pending[1]);
    uint32_t codes = 0;
    size_t length = 0;
    for (int i = 0; i < 2; i++) {
        response_t response = hostcall_pending_req_select(pending, 2 - (size_t)i, &which);
        if (pending[0] == which)
            pending[0] = pending[1];
        uint8_t *body;
        size_t n;
        codes += hostcall_resp_get_response_code(response);
        hostcall_resp_get_body(&body, &n, response);
        length += n;
        free(body);
    }
    request_t refused = hostcall_req_create("GET", 3, "http://refused.test/", 20);
    snprintf(text, sizeof text, "%u %u %d", codes, (unsigned)length, hostcall_req_send(refused));
    lucet_respond(200, text);
}

static void fail(void) {
    static const char why[] = "this is wrong";
    hostcall_debug(why, (size_t)-1);
    lucet_respond(500, why);
    exit(1);
}

void run(void) {
    lucet_init_mm();
    char *path;
    size_t n;
    hostcall_req_get_path(&path, &n, REQUEST_INCOMING);
    if (!strcmp(path, "/count"))
        count();
    else if (!strcmp(path, "/fetch"))
        fetch();
    else if (!strcmp(path, "/fail"))
        fail();
    else if (!strcmp(path, "/trap"))
        __builtin_trap();
    else
        echo(path);
}
