/* lucet_http.h: the functions that a Terrarium gives its guests, for programs in C. docs/terrarium-hostcalls.md explains them.
 *
 * A program exports `run`, which answers one request. It calls hostcall_init_mm first: what functions give comes from the program's own
 * malloc, ends with a NUL that its size does not count, and is to be freed.
 *
 *     #include "lucet_http.h"
 *
 *     void run(void) {
 *         lucet_init_mm();
 *         char *name = lucet_request_header("x-name");
 *         lucet_response_header("content-type", "text/plain");
 *         lucet_respond(200, name ? name : "nobody");
 *     }
 */
#ifndef LUCET_HTTP_H
#define LUCET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LUCET_HOSTCALL(name) __attribute__((import_module("env"), import_name(#name))) name

__attribute__((export_name("run"))) void run(void);

typedef int32_t request_t, response_t, pending_request_t;

enum { REQUEST_INCOMING = 0, RESPONSE_OUTGOING = 0, HANDLE_ERROR = -1, RESPONSE_NOT_READY = -2 };
enum value_status { value_status_ok = 0, value_status_invalid = 1 };

struct string_slice {
    const char *ptr;
    size_t len;
};

/* The program's allocator; functions that give something need it. */
void LUCET_HOSTCALL(hostcall_init_mm)(void *(*malloc_)(size_t), void (*free_)(void *));

/* To the request's log. debug: len -1 stands for a NUL at the end. */
void LUCET_HOSTCALL(hostcall_debug)(const char *msg, size_t len);
void LUCET_HOSTCALL(hostcall_panic_hook)(const char *msg, size_t len);

/* Getters write where what they give is and how large it is; NULL and 0 if there is nothing. Of REQUEST_INCOMING only. */
void LUCET_HOSTCALL(hostcall_req_get_method)(char **method, size_t *len, request_t req);
void LUCET_HOSTCALL(hostcall_req_get_path)(char **path, size_t *len, request_t req); /* with the query */
void LUCET_HOSTCALL(hostcall_req_get_body)(uint8_t **body, size_t *len, request_t req);
void LUCET_HOSTCALL(hostcall_req_get_headers)(struct string_slice **names, size_t *count, request_t req);
void LUCET_HOSTCALL(hostcall_req_get_header)(struct string_slice **values, size_t *count, request_t req,
                                             const char *name, size_t len);

/* Requests to others: each is sent once. Of those that were made with hostcall_req_create only. */
request_t LUCET_HOSTCALL(hostcall_req_create)(const char *method, size_t method_len, const char *url, size_t url_len);
enum value_status LUCET_HOSTCALL(hostcall_req_set_header)(request_t req, const char *name, size_t len,
                                                          const struct string_slice *values, size_t count);
enum value_status LUCET_HOSTCALL(hostcall_req_set_body)(request_t req, const void *body, size_t len);
response_t LUCET_HOSTCALL(hostcall_req_send)(request_t req); /* HANDLE_ERROR: no response */
pending_request_t LUCET_HOSTCALL(hostcall_req_send_async)(request_t req);
response_t LUCET_HOSTCALL(hostcall_pending_req_wait)(pending_request_t pending);
response_t LUCET_HOSTCALL(hostcall_pending_req_poll)(pending_request_t pending); /* or RESPONSE_NOT_READY */
response_t LUCET_HOSTCALL(hostcall_pending_req_select)(const pending_request_t *pending, size_t count,
                                                       pending_request_t *which);

/* Of responses to those. */
uint32_t LUCET_HOSTCALL(hostcall_resp_get_response_code)(response_t resp); /* 0: there is no such response */
void LUCET_HOSTCALL(hostcall_resp_get_body)(uint8_t **body, size_t *len, response_t resp);
void LUCET_HOSTCALL(hostcall_resp_get_headers)(struct string_slice **names, size_t *count, response_t resp);
void LUCET_HOSTCALL(hostcall_resp_get_header)(struct string_slice **values, size_t *count, response_t resp,
                                              const char *name, size_t len);

/* The response to the client, RESPONSE_OUTGOING. It is sent when run has returned, or after exit(). */
enum value_status LUCET_HOSTCALL(hostcall_resp_set_response_code)(response_t resp, uint16_t code);
enum value_status LUCET_HOSTCALL(hostcall_resp_set_header)(response_t resp, const char *name, size_t len,
                                                           const struct string_slice *values, size_t count);
enum value_status LUCET_HOSTCALL(hostcall_resp_set_body)(response_t resp, const void *body, size_t len);

/* The tenant's key-value store. Those that write tell whether there was nothing under the key. */
bool LUCET_HOSTCALL(hostcall_kvstore_insert)(const char *key, size_t key_len, const void *value, size_t len);
bool LUCET_HOSTCALL(hostcall_kvstore_upsert)(const char *key, size_t key_len, const void *value,
                                             size_t len); /* if so */
bool LUCET_HOSTCALL(hostcall_kvstore_append)(const char *key, size_t key_len, const void *value, size_t len);
bool LUCET_HOSTCALL(hostcall_kvstore_get)(uint8_t **value, size_t *len, const char *key, size_t key_len);
bool LUCET_HOSTCALL(hostcall_kvstore_remove)(const char *key, size_t key_len);

uint64_t LUCET_HOSTCALL(hostcall_rng_next_u64)(void);
uint64_t LUCET_HOSTCALL(hostcall_time_now)(uint32_t *nanoseconds); /* seconds since 1970; NULL: no nanoseconds */

/* A DNS message and the answer to it; addresses of 4 or 16 bytes. */
bool LUCET_HOSTCALL(hostcall_dns_query_raw)(uint8_t **answer, size_t *len, const uint8_t *query, size_t query_len);
bool LUCET_HOSTCALL(hostcall_dns_query_ip)(struct string_slice **addresses, size_t *count, const char *name, size_t len,
                                           bool ipv6);

/* ---- what most programs need ---- */

static void *lucet_malloc(size_t size) {
    return malloc(size);
}

static void lucet_free(void *pointer) {
    free(pointer);
}

static inline void lucet_init_mm(void) {
    hostcall_init_mm(lucet_malloc, lucet_free);
}

/* The first value of a header, to be freed; NULL if there is none. */
static inline char *lucet_request_header(const char *name) {
    struct string_slice *values;
    size_t count;
    hostcall_req_get_header(&values, &count, REQUEST_INCOMING, name, strlen(name));
    if (!count)
        return NULL;
    char *first = (char *)values[0].ptr;
    for (size_t i = 1; i < count; i++)
        free((void *)values[i].ptr);
    free(values);
    return first;
}

static inline enum value_status lucet_response_header(const char *name, const char *value) {
    struct string_slice one = {value, strlen(value)};
    return hostcall_resp_set_header(RESPONSE_OUTGOING, name, strlen(name), &one, 1);
}

static inline void lucet_respond(uint16_t code, const char *body) {
    hostcall_resp_set_response_code(RESPONSE_OUTGOING, code);
    hostcall_resp_set_body(RESPONSE_OUTGOING, body, strlen(body));
}

#endif
