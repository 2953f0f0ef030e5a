#ifndef LORACLE_H
#define LORACLE_H
/* The C interface of loracle's engine: LoRA adapters by name, brought to the device when they are needed,
 * kept there while they are used. It is a thin skin over loracle/engine/engine.hpp, where the behaviour is
 * described.
 *
 *   loracle_config config;
 *   loracle_error error = LORACLE_ERROR_INIT;
 *   loracle_engine* engine = NULL;
 *   loracle_lease* lease = NULL;
 *   const char* const names[] = {"support-en"};
 *   loracle_config_init(&config, sizeof config);
 *   config.directory = "/srv/adapters";
 *   config.max_loras = 8;
 *   if (loracle_engine_open(&config, &engine, &error) != LORACLE_OK) return complain(error.message);
 *   if (loracle_engine_acquire(engine, names, 1, LORACLE_NO_TIMEOUT, &lease, &error) == LORACLE_OK) {
 *     compute_with(loracle_lease_slot(lease, 0));
 *     loracle_lease_release(lease);
 *   }
 *   loracle_engine_close(engine);
 *
 * Complete programs: tests/install/c_api/consumer.c, tests/engine/c_api_test.c.
 *
 * Link: CMake's `loracle::c` or pkg-config's `loracle-c`. The library is static and written in C++.
 *
 * Rules for every function
 *  - Status. Whatever can fail answers a loracle_status, LORACLE_OK if it did not. `error` may be NULL; if
 *    not, it is cleared by success, and a failure fills it: initialise it with LORACLE_ERROR_INIT, clear it
 *    at the end. A failed call leaves its output pointers NULL or 0, and changes nothing that its comment
 *    does not say. No exception leaves the library.
 *  - NULL. A NULL where a pointer is needed is LORACLE_INVALID. Releasing, freeing or closing NULL does
 *    nothing.
 *  - Ownership. What a function puts into a `T**` belongs to the caller until it is given to the function
 *    named at T. All else belongs to the library.
 *  - Strings are UTF-8 and end in a NUL byte. The library has copied what it is given when the call returns.
 *    How long a string lives that it gives out is said where it does; what it puts into arrays is the
 *    caller's.
 *  - Threads. Any function, any thread, any number at once, except: `..._close`, `..._free` and `..._release`
 *    end a handle, so no other call with that handle may be under way or follow; and one loracle_error is one
 *    thread's at a time.
 *  - Growing. Structs that may get more fields, at their end, are passed with the size the caller was
 *    compiled with. Of a struct the library fills, fields that only the caller knows become 0; in a config,
 *    fields that only the caller knows must be 0. The structs inside such structs, and all others, stay as
 *    they are.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library that is linked: "0.1.0". Lives for ever. */
const char* loracle_version(void);

/* ---- Failures ------------------------------------------------------------------------------------------ */

typedef int32_t loracle_status;
enum {
  LORACLE_OK = 0,
  LORACLE_INVALID = 1,     /* an argument or a setting is wrong; or the adapter's files break a rule */
  LORACLE_NOT_FOUND = 2,   /* no such adapter, file or policy */
  LORACLE_IO = 3,          /* the system refused or failed; detail = errno */
  LORACLE_CORRUPT = 4,     /* the bytes are there but are not what they claim to be */
  LORACLE_TOO_LARGE = 5,   /* cannot fit even when everything else is gone */
  LORACLE_ALL_PINNED = 6,  /* pinned adapters leave no room, and no lease that ends will change that */
  LORACLE_UNSUPPORTED = 7, /* sound, but of a kind that is not served */
  LORACLE_BUSY = 8,       /* too many requests wait already, or another process has the database: try again */
  LORACLE_DEADLINE = 9,   /* not done in the time given */
  LORACLE_CANCELLED = 10, /* removed, or shut down, while it was waited for */
  /* Up to here the numbers are those of loracle::Errc. */
  LORACLE_NO_MEMORY = 100, /* the process is out of memory */
  LORACLE_INTERNAL = 101   /* an exception that was not foreseen: a bug of loracle */
};

/* "ok", "invalid", "not_found", ...; "unknown" for a number that is none of these. Lives for ever. */
const char* loracle_status_name(loracle_status status);

typedef struct loracle_error {
  loracle_status code;
  int64_t detail; /* errno, HTTP status, sqlite or CUDA code; 0 where there is none */
  char* message;  /* what was wrong, where, and what to do; NULL if there was no memory for it. Lives until
                   * the error is cleared or used again */
} loracle_error;

#define LORACLE_ERROR_INIT \
  { LORACLE_OK, 0, NULL }

/* Frees the message and sets everything to 0. */
void loracle_error_clear(loracle_error* error);

/* ---- Opening and closing ------------------------------------------------------------------------------- */

typedef int32_t loracle_tier;
enum {
  LORACLE_DEVICE = 0, /* slots on the device */
  LORACLE_HOST = 1    /* host memory */
};

/* What weights are served as. Numbers are those of loracle::Dtype. */
typedef int32_t loracle_dtype;
enum { LORACLE_F32 = 1, LORACLE_F16 = 2, LORACLE_BF16 = 3, LORACLE_F8E4M3 = 4, LORACLE_F8E5M2 = 5 };

/* Where slots lie. */
typedef int32_t loracle_memory;
enum {
  LORACLE_MEMORY_BEST = 0, /* the first CUDA device if one can be used, else this machine's memory */
  LORACLE_MEMORY_HOST = 1,
  LORACLE_MEMORY_CUDA = 2 /* or LORACLE_UNSUPPORTED, LORACLE_NOT_FOUND */
};

#define LORACLE_UNLIMITED UINT64_MAX
#define LORACLE_NO_TIMEOUT UINT64_MAX
#define LORACLE_NO_SLOT UINT32_MAX

/* Settings; loracle_config_init gives each the default named here. Strings are read by loracle_engine_open,
 * which copies them; NULL counts as empty. */
typedef struct loracle_config {
  size_t size;                    /* of this struct, where the caller was compiled */
  const char* directory;          /* of adapters, one folder each; empty: adapters come by `add`. NULL */
  const char* database;           /* the catalog's file; empty: kept in memory, forgotten at the end. NULL */
  const char* policy;             /* eviction, device/host: "sieve/gdsf"; one name means both. "lru" */
  const char* const* base_models; /* accepted names of the base model; none: any. NULL */
  size_t base_models_count;       /* 0 */
  uint64_t gpu_memory;            /* bytes of resident adapters, beside the counts. LORACLE_UNLIMITED */
  uint64_t cpu_memory;            /* likewise. LORACLE_UNLIMITED */
  uint32_t max_loras;             /* slots on the device. 1 */
  uint32_t max_cpu_loras;         /* adapters in host memory; 0: as many as max_loras. 0 */
  uint32_t max_lora_rank;         /* of a slot; 0: the largest rank found, as vLLM would round it. 0 */
  uint32_t adapters_max;          /* that can be in memory or known to policies at once; 0: 4 x known. 0 */
  uint32_t loads_in_flight_max;   /* storage reads at once. 4 */
  uint32_t requests_waiting_max;  /* one more is LORACLE_BUSY. 4096 */
  uint32_t passes_max;            /* requests that may pass one that waits for room. 64 */
  uint32_t threads;               /* that read and copy; 0: one more than loads_in_flight_max. 0 */
  loracle_dtype dtype;            /* LORACLE_BF16 */
  int32_t restore_residency;      /* prefetch what was resident at the last shutdown: 1, or 0. 1 */
  loracle_memory memory;          /* where the slots lie. LORACLE_MEMORY_BEST */
  int32_t cuda_ordinal;           /* which CUDA device, for LORACLE_MEMORY_CUDA; others ignore it. 0 */
  const char* const* allowed_paths; /* nothing outside these directories is read, whatever links or `add`
                                     * name; none: whatever this process may read. NULL */
  size_t allowed_paths_count;       /* 0 */
  const char* model;        /* whose layers slots have room for: "llama-3.1-8b", a config.json; empty: those
                             * of the adapters found at the start. NULL */
  const char* lora_targets; /* with model: "auto", "all-linear", "q_proj,v_proj". "auto" */
} loracle_config;

/* Gives every field its default. `size`: sizeof(loracle_config). LORACLE_INVALID: NULL, or a size that no
 * version of the struct has had. */
loracle_status loracle_config_init(loracle_config* config, size_t size);

/* Ends with loracle_engine_close. */
typedef struct loracle_engine loracle_engine;

/* Opens the catalog, discovers the directory, allocates slots and host memory, starts threads.
 * LORACLE_INVALID names the setting that is wrong. */
loracle_status loracle_engine_open(const loracle_config* config, loracle_engine** engine,
                                   loracle_error* error);

/* Refuses new requests, lets waiting ones fail with LORACLE_CANCELLED, waits until loads, copies and leases
 * have ended, and saves which adapters were resident. Calls that follow answer LORACLE_CANCELLED, or only
 * tell what is. Again: does nothing. A thread that holds a lease and calls this waits for ever; so does a
 * callback. */
loracle_status loracle_engine_shutdown(loracle_engine* engine, loracle_error* error);

/* loracle_engine_shutdown, if it was not called, then frees the engine. All callbacks have returned by then.
 * Not from a callback. */
void loracle_engine_close(loracle_engine* engine);

/* ---- Requests ------------------------------------------------------------------------------------------ */

/* Keeps its adapters on the device. Ends with loracle_lease_release, before its engine is closed. */
typedef struct loracle_lease loracle_lease;

/* Waits until all the adapters named are on the device together, or `timeout_ns` nanoseconds have passed. The
 * lease holds them in the order of `names`, duplicates dropped. LORACLE_NOT_FOUND, LORACLE_INVALID or
 * _CORRUPT or _IO (an adapter's files), LORACLE_TOO_LARGE (more adapters than slots, or more bytes than a
 * tier), LORACLE_ALL_PINNED, LORACLE_BUSY, LORACLE_DEADLINE, LORACLE_CANCELLED. */
loracle_status loracle_engine_acquire(loracle_engine* engine, const char* const* names, size_t count,
                                      uint64_t timeout_ns, loracle_lease** lease, loracle_error* error);

/* Told once how a request ended: the lease, which is the receiver's; or NULL and why, in an error that lives
 * until the callback returns. Runs on one of the engine's threads, on the one that made the request, or on
 * one that made room for it. It may call anything but shutdown and close, must not wait for another request,
 * and no exception may leave it. */
typedef void (*loracle_acquired)(void* user, loracle_lease* lease, const loracle_error* error);

/* The same without waiting: LORACLE_OK means that `done` is called exactly once with `user`, possibly before
 * this returns; whatever is wrong with the request is told there. Anything else: it is not called. */
loracle_status loracle_engine_acquire_async(loracle_engine* engine, const char* const* names, size_t count,
                                            uint64_t timeout_ns, loracle_acquired done, void* user,
                                            loracle_error* error);

/* Adapters of the lease; 0 for NULL. */
size_t loracle_lease_count(const loracle_lease* lease);
/* Of the index-th adapter: its lora_int_id (from 1; it means this name for ever), its slot, its largest rank.
 * 0, LORACLE_NO_SLOT, 0 where there is none. */
uint32_t loracle_lease_id(const loracle_lease* lease, size_t index);
uint32_t loracle_lease_slot(const loracle_lease* lease, size_t index);
uint32_t loracle_lease_rank(const loracle_lease* lease, size_t index);

/* Lets the adapters go: their slots may be rewritten from now on. Frees the lease. May run callbacks of
 * requests that waited for room. */
void loracle_lease_release(loracle_lease* lease);

/* ---- What is where ------------------------------------------------------------------------------------- */

/* Starts to bring adapters into a tier, behind everything that is waited for, and does not wait.
 * LORACLE_NOT_FOUND if one is unknown; the others are prefetched all the same. */
loracle_status loracle_engine_prefetch(loracle_engine* engine, const char* const* names, size_t count,
                                       loracle_tier tier, loracle_error* error);
/* Brings adapters into host memory and waits. The first failure is answered; the others go on. */
loracle_status loracle_engine_load_many(loracle_engine* engine, const char* const* names, size_t count,
                                        uint64_t timeout_ns, loracle_error* error);

/* Brings an adapter into a tier, waits for it, and keeps it there and in the tiers below, after a restart
 * too. */
loracle_status loracle_engine_pin(loracle_engine* engine, const char* name, loracle_tier tier,
                                  uint64_t timeout_ns, loracle_error* error);
/* Lifts the pin of a tier and of those above it; a pin that still waits ends with LORACLE_CANCELLED. */
loracle_status loracle_engine_unpin(loracle_engine* engine, const char* name, loracle_tier tier,
                                    loracle_error* error);

/* Brings an adapter into a slot without using it, and waits. */
loracle_status loracle_engine_activate(loracle_engine* engine, const char* name, uint64_t timeout_ns,
                                       loracle_error* error);
/* Frees its slot; LORACLE_ALL_PINNED if it is leased or pinned. */
loracle_status loracle_engine_deactivate(loracle_engine* engine, const char* name, loracle_error* error);

/* Another eviction policy for a tier: "gdsf", "slru:segments=2"; of host memory also "conservative" and
 * "aggressive". What is resident stays. */
loracle_status loracle_engine_set_policy(loracle_engine* engine, loracle_tier tier, const char* policy,
                                         loracle_error* error);

/* ---- Names --------------------------------------------------------------------------------------------- */

/* Makes the adapter in a folder known under a name, or replaces its content: requests that begin from now on
 * get the new one, leases keep the old. `id` may be NULL. */
loracle_status loracle_engine_add(loracle_engine* engine, const char* name, const char* directory,
                                  uint32_t* id, loracle_error* error);
/* Forgets an adapter: no request finds it from now on, and its memory is freed when its leases end. */
loracle_status loracle_engine_remove(loracle_engine* engine, const char* name, loracle_error* error);

/* Room for any adapter's name and its NUL byte. */
#define LORACLE_NAME_BYTES_MAX 256

/* Writes the name that belongs to an id. LORACLE_TOO_LARGE if it does not fit `capacity` bytes, its NUL
 * included; LORACLE_NAME_BYTES_MAX always suffice. */
loracle_status loracle_engine_adapter_name(loracle_engine* engine, uint32_t id, char* name, size_t capacity,
                                           loracle_error* error);
loracle_status loracle_engine_adapter_id(loracle_engine* engine, const char* name, uint32_t* id,
                                         loracle_error* error);

/* What is known of one adapter. Flags are 0 or 1. */
typedef struct loracle_adapter {
  char name[LORACLE_NAME_BYTES_MAX];
  uint64_t bytes; /* of its weights as served */
  uint64_t uses;
  uint32_t id;
  uint32_t rank;
  uint32_t slot; /* LORACLE_NO_SLOT: none */
  uint32_t leases;
  uint8_t on_device; /* its slot holds it whole */
  uint8_t on_host;
  uint8_t loading;
  uint8_t pinned; /* in any tier */
  uint8_t reserved[4];
} loracle_adapter;

/* `size`: sizeof(loracle_adapter). */
loracle_status loracle_engine_adapter(loracle_engine* engine, const char* name, loracle_adapter* adapter,
                                      size_t size, loracle_error* error);

/* All adapters as they were at one moment, sorted by name. Ends with loracle_list_free; may outlive the
 * engine. */
typedef struct loracle_list loracle_list;

loracle_status loracle_engine_list(loracle_engine* engine, loracle_list** list, loracle_error* error);
/* 0 for NULL. */
size_t loracle_list_count(const loracle_list* list);
/* `size`: sizeof(loracle_adapter). LORACLE_NOT_FOUND: there are not that many. */
loracle_status loracle_list_at(const loracle_list* list, size_t index, loracle_adapter* adapter, size_t size);
void loracle_list_free(loracle_list* list);

/* What a refresh found. Ends with loracle_refresh_free; may outlive the engine. */
typedef struct loracle_refresh loracle_refresh;

typedef int32_t loracle_change;
enum {
  LORACLE_ADDED = 0,
  LORACLE_CHANGED = 1,  /* new content under an old name */
  LORACLE_VANISHED = 2, /* served until their leases end */
  LORACLE_REJECTED = 3, /* "name: reason" */
  LORACLE_UNCHANGED = 4 /* counted only */
};

/* Looks at the directory again. `report` may be NULL. */
loracle_status loracle_engine_refresh(loracle_engine* engine, loracle_refresh** report, loracle_error* error);
/* 0 for NULL and for numbers that are no change. */
size_t loracle_refresh_count(const loracle_refresh* report, loracle_change change);
/* The index-th name of that change, sorted; NULL where there is none. Lives as long as the report. */
const char* loracle_refresh_name(const loracle_refresh* report, loracle_change change, size_t index);
void loracle_refresh_free(loracle_refresh* report);

/* ---- Numbers ------------------------------------------------------------------------------------------- */

/* Latencies, each in a bucket of its power of two. */
typedef struct loracle_latency {
  uint64_t count;
  uint64_t sum_ns;
  uint64_t buckets[64]; /* [i]: 2^i .. 2^(i+1) - 1 ns */
} loracle_latency;

/* Upper end of the bucket in which the share (0.99) lies; 0 when nothing was counted, or for NULL. */
uint64_t loracle_latency_quantile_ns(const loracle_latency* latency, double share);

typedef struct loracle_tier_stats {
  uint64_t entries;
  uint64_t entries_max;
  uint64_t bytes;
  uint64_t bytes_max;
  uint64_t pinned;
  char policy[64]; /* cut if it is longer */
} loracle_tier_stats;

typedef struct loracle_stats {
  uint64_t uses; /* an adapter in a request is one */
  uint64_t gpu_hits;
  uint64_t host_to_device_loads; /* uses that had to be copied into a slot */
  uint64_t disk_loads;           /* of those, how many were not in host memory */
  uint64_t gpu_evictions;        /* victims of the device's own policy */
  uint64_t gpu_invalidations;    /* slots freed because host memory dropped the adapter */
  uint64_t host_evictions;
  uint64_t refused_requests;
  uint64_t refused_uses;
  uint64_t decisions;
  uint64_t decision_log_hash;
  uint64_t adapters_known;
  uint64_t requests;
  uint64_t requests_waiting; /* now */
  uint64_t requests_failed;
  uint64_t leases; /* now */
  uint64_t loads;  /* from storage, done */
  uint64_t loads_failed;
  uint64_t loads_in_flight; /* now */
  uint64_t loads_shared;    /* waits that joined a load which was there already */
  uint64_t loaded_bytes;
  uint64_t prefetches;
  uint64_t prefetches_dropped; /* loaded, and no room: everything was held */
  uint64_t copies;             /* into slots */
  uint64_t copies_failed;
  uint64_t copied_bytes;
  uint64_t arena_bytes;
  uint64_t arena_moved_bytes; /* to close gaps */
  loracle_tier_stats device;
  loracle_tier_stats host;
  loracle_latency load_latency;    /* storage to host memory */
  loracle_latency copy_latency;    /* host memory to a slot */
  loracle_latency acquire_latency; /* of requests that had to wait, past their deadline too */
} loracle_stats;

/* `size`: sizeof(loracle_stats). */
loracle_status loracle_engine_stats(loracle_engine* engine, loracle_stats* stats, size_t size,
                                    loracle_error* error);

/* ---- Slots, for whoever computes with them ------------------------------------------------------------- */

/* The slots hold, of every linear layer that LoRA adds to (a slice), two stacked matrices, row-major, of
 * `dtype`:
 *   A  [slots, max_rank, in]     B  [slots, out, max_rank]
 * the scaling multiplied into B, zero beyond an adapter's own rank and where it has nothing. */
typedef struct loracle_layout {
  uint64_t slot_bytes; /* of one slot over all slices */
  uint32_t slots;
  uint32_t slices;
  uint32_t max_rank;
  uint32_t element_bytes;
  loracle_dtype dtype;
  loracle_memory memory; /* LORACLE_MEMORY_HOST or LORACLE_MEMORY_CUDA: whose addresses the slices' are */
} loracle_layout;

/* `size`: sizeof(loracle_layout). Never changes while the engine is open. */
loracle_status loracle_engine_layout(loracle_engine* engine, loracle_layout* layout, size_t size,
                                     loracle_error* error);

typedef struct loracle_slice {
  const char* module; /* "model.layers.0.self_attn.q_proj"; lives as long as the engine */
  void* a;            /* the stacked A, a device address; good as long as the engine */
  void* b;
  uint64_t a_slot_bytes; /* from one slot of A to the next: max_rank x in elements */
  uint64_t b_slot_bytes; /* out x max_rank elements */
  uint32_t in;
  uint32_t out;
} loracle_slice;

/* The index-th slice. `size`: sizeof(loracle_slice). LORACLE_NOT_FOUND: there are not that many. Never
 * changes while the engine is open. */
loracle_status loracle_engine_slice(loracle_engine* engine, uint32_t index, loracle_slice* slice, size_t size,
                                    loracle_error* error);

#ifdef __cplusplus
}
#endif

#endif
