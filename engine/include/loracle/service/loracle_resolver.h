#ifndef LORACLE_SERVICE_LORACLE_RESOLVER_H
#define LORACLE_SERVICE_LORACLE_RESOLVER_H
/*
 * A resolver of adapters as a shared object, in C or anything that can export a C function.
 *
 * The object exports one function, loracle_resolver_plugin(), which answers a description that stays valid
 * for ever. loracle opens it once at the start, asks it for adapters that nobody knows yet, and closes it at
 * the end:
 *
 *   static int resolve(void* state, const loracle_resolver_request* request,
 *                      const loracle_resolver_reply* reply) {
 *     if (strcmp(request->name, "sql") != 0) return LORACLE_RESOLVER_NOT_FOUND;
 *     reply->answer(reply->to, "/adapters/sql");
 *     return LORACLE_RESOLVER_FOUND;
 *   }
 *   static const loracle_resolver kPlugin = {LORACLE_RESOLVER_ABI_VERSION, sizeof(loracle_resolver), "mine",
 *                                            0, resolve, 0};
 *   const loracle_resolver* loracle_resolver_plugin(void) { return &kPlugin; }
 *
 * Threads: `resolve` is called from several at once, each a thread of its own with a stack of 256 KiB at
 * least.
 * Deadline: a call that is not back after deadline_ms is given up; loracle asks the next resolver, and this
 * one no more while too many of its calls hang. The thread of such a call is not ended: when it comes back,
 * its answer is dropped.
 * A plugin runs inside the server's process and can read what that can: load only what you trust. A C++
 * exception, a memory fault or an abort() in `resolve` ends its call and the plugin, and not the server; what
 * the plugin has done to the server's memory before, nobody can undo.
 * What is answered is checked: it must hold an adapter of the base model that is served.
 * Versions: LORACLE_RESOLVER_ABI_VERSION changes when a plugin has to be built again; loracle refuses any
 * other.
 */

#ifdef __cplusplus
extern "C" {
#endif

#define LORACLE_RESOLVER_ABI_VERSION 1

/* C's names and ways: NOLINTBEGIN(readability-identifier-naming, modernize-use-using) */

enum {
  LORACLE_RESOLVER_FOUND = 0,     /* reply->answer was called with the location */
  LORACLE_RESOLVER_NOT_FOUND = 1, /* not mine: ask the next one */
  LORACLE_RESOLVER_REFUSED = 2,   /* mine, but not to be had; the answer says why */
  LORACLE_RESOLVER_FAILED = 3     /* could not find out, and may another time; the answer says why */
};

/* Borrowed for the time of the call. */
typedef struct loracle_resolver_request {
  unsigned int size;      /* of this struct, as loracle knows it */
  const char* base_model; /* as the client has it; "" where it has none */
  const char* name;       /* of the adapter: UTF-8, no '/', no leading dot */
  unsigned int deadline_ms; /* for this call */
} loracle_resolver_request;

typedef struct loracle_resolver_reply {
  unsigned int size;
  void* to; /* hand it to `answer` */
  /* Location (a directory, or a URI) or reason; copied at once. The last call counts. */
  void (*answer)(void* to, const char* text);
} loracle_resolver_reply;

typedef struct loracle_resolver {
  unsigned int abi_version; /* LORACLE_RESOLVER_ABI_VERSION */
  unsigned int size;        /* sizeof(loracle_resolver) */
  const char* name;         /* as resolver.chain has it: letters, digits, '_', '-' */
  /* May be null. 0, or anything else to refuse to start. */
  int (*open)(void** state);
  int (*resolve)(void* state, const loracle_resolver_request* request, const loracle_resolver_reply* reply);
  /* May be null. Not called while calls hang. */
  void (*close)(void* state);
} loracle_resolver;
/* NOLINTEND(readability-identifier-naming, modernize-use-using) */

/* What a plugin exports. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const loracle_resolver* loracle_resolver_plugin(void);

#ifdef __cplusplus
}
#endif
#endif
