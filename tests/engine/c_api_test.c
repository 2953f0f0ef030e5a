/* The C interface as a C program meets it: C11, no C++ header in sight. Every function below is a test; its
 * comment says what would be broken if it failed. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/c_api_fixture.h"
#include "loracle.h"

static int failures = 0;

#define EXPECT(condition)                                                           \
  do {                                                                              \
    if (!(condition)) {                                                             \
      ++failures;                                                                   \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, __func__, #condition); \
    }                                                                               \
  } while (0)

#define MILLISECOND UINT64_C(1000000)

/* The shared folder: "a0" .. "a3", ranks 4, 8, 4, 8. */
static char* adapters = NULL;
static const char* const all_names[] = {"a0", "a1", "a2", "a3"};

static loracle_config config_of(const char* directory, uint32_t max_loras, uint32_t max_cpu_loras) {
  loracle_config config;
  EXPECT(loracle_config_init(&config, sizeof config) == LORACLE_OK);
  config.directory = directory;
  config.max_loras = max_loras;
  config.max_cpu_loras = max_cpu_loras;
  config.memory = LORACLE_MEMORY_HOST; /* the test looks into slots */
  return config;
}

static loracle_engine* open_engine(const char* directory, uint32_t max_loras, uint32_t max_cpu_loras) {
  const loracle_config config = config_of(directory, max_loras, max_cpu_loras);
  loracle_error error = LORACLE_ERROR_INIT;
  loracle_engine* engine = NULL;
  if (loracle_engine_open(&config, &engine, &error) != LORACLE_OK)
    fprintf(stderr, "open: %s\n", error.message);
  EXPECT(engine != NULL);
  EXPECT(error.code == LORACLE_OK && error.message == NULL);
  return engine;
}

static loracle_lease* acquire_one(loracle_engine* engine, const char* name) {
  loracle_lease* lease = NULL;
  loracle_error error = LORACLE_ERROR_INIT;
  if (loracle_engine_acquire(engine, &name, 1, LORACLE_NO_TIMEOUT, &lease, &error) != LORACLE_OK)
    fprintf(stderr, "%s: %s\n", name, error.message);
  loracle_error_clear(&error);
  EXPECT(lease != NULL);
  return lease;
}

static loracle_stats stats_of(loracle_engine* engine) {
  loracle_stats stats;
  EXPECT(loracle_engine_stats(engine, &stats, sizeof stats, NULL) == LORACLE_OK);
  return stats;
}

/* If this failed, programs compiled against an older or a newer header would read and write beside fields. */
static void configs_of_other_versions_are_understood(void) {
  struct {
    loracle_config known;
    uint64_t of_a_later_version;
  } later;
  loracle_engine* engine = NULL;
  loracle_error error = LORACLE_ERROR_INIT;
  loracle_config config;
  EXPECT(loracle_config_init(NULL, sizeof config) == LORACLE_INVALID);
  EXPECT(loracle_config_init(&config, 8) == LORACLE_INVALID);
  EXPECT(loracle_config_init(&config, sizeof config) == LORACLE_OK);
  EXPECT(config.max_loras == 1 && config.dtype == LORACLE_BF16 && config.restore_residency == 1);
  EXPECT(config.gpu_memory == LORACLE_UNLIMITED && strcmp(config.policy, "lru") == 0);

  later.of_a_later_version = 7;
  EXPECT(loracle_config_init(&later.known, sizeof later) == LORACLE_OK);
  EXPECT(later.known.size == sizeof later && later.of_a_later_version == 0);
  EXPECT(loracle_engine_open(&later.known, &engine, &error) == LORACLE_OK);
  loracle_engine_close(engine);
  later.of_a_later_version = 7;
  EXPECT(loracle_engine_open(&later.known, &engine, &error) == LORACLE_INVALID);
  EXPECT(engine == NULL && error.code == LORACLE_INVALID && strstr(error.message, "version") != NULL);
  config.size = 8;
  EXPECT(loracle_engine_open(&config, &engine, &error) == LORACLE_INVALID);
  loracle_error_clear(&error);
  EXPECT(error.code == LORACLE_OK && error.message == NULL);
}

/* If this failed, a wrong setting would crash the caller, or open an engine that is half there. */
static void wrong_settings_are_named(void) {
  loracle_config config = config_of(adapters, 0, 0);
  loracle_engine* engine = NULL;
  loracle_error error = LORACLE_ERROR_INIT;
  const char* const models[] = {"a-model", NULL};
  EXPECT(loracle_engine_open(NULL, &engine, &error) == LORACLE_INVALID);
  EXPECT(loracle_engine_open(&config, NULL, &error) == LORACLE_INVALID);
  EXPECT(loracle_engine_open(&config, &engine, &error) == LORACLE_INVALID);
  EXPECT(strstr(error.message, "max_loras") != NULL);
  config.max_loras = 2;
  config.dtype = 77;
  EXPECT(loracle_engine_open(&config, &engine, &error) == LORACLE_INVALID);
  EXPECT(strstr(error.message, "dtype") != NULL);
  config.dtype = LORACLE_BF16;
  config.policy = "no-such-policy";
  EXPECT(loracle_engine_open(&config, &engine, &error) == LORACLE_NOT_FOUND);
  config.policy = NULL;
  config.threads = 1U << 20;
  EXPECT(loracle_engine_open(&config, &engine, &error) == LORACLE_INVALID);
  config.threads = 2;
  config.base_models = models;
  config.base_models_count = 2;
  EXPECT(loracle_engine_open(&config, &engine, &error) == LORACLE_INVALID);
  EXPECT(strstr(error.message, "base_models[1]") != NULL);
  config.base_models_count = 0;
  config.directory = "/no/such/folder";
  EXPECT(loracle_engine_open(&config, &engine, &error) == LORACLE_NOT_FOUND);
  EXPECT(engine == NULL);
  loracle_error_clear(&error);
}

/* If this failed, a C++ exception would cross into C, which ends the process. */
static void exceptions_end_at_the_border(void) {
  loracle_config config = config_of(adapters, 1, 1);
  loracle_engine* engine = NULL;
  loracle_error error = LORACLE_ERROR_INIT;
  config.base_models = all_names;
  config.base_models_count = SIZE_MAX;
  EXPECT(loracle_engine_open(&config, &engine, &error) == LORACLE_NO_MEMORY);
  EXPECT(engine == NULL && error.code == LORACLE_NO_MEMORY && error.message != NULL);
  loracle_error_clear(&error);
}

/* If this failed, a C program could not tell which slot holds which adapter. */
static void a_lease_names_ids_slots_and_ranks(void) {
  loracle_engine* engine = open_engine(adapters, 2, 4);
  const char* const names[] = {"a1", "a0", "a1"};
  loracle_lease* lease = NULL;
  uint32_t id = 0;
  EXPECT(loracle_engine_acquire(engine, names, 3, LORACLE_NO_TIMEOUT, &lease, NULL) == LORACLE_OK);
  EXPECT(loracle_lease_count(lease) == 2);
  EXPECT(loracle_lease_rank(lease, 0) == 8 && loracle_lease_rank(lease, 1) == 4);
  EXPECT(loracle_lease_slot(lease, 0) < 2 && loracle_lease_slot(lease, 1) < 2);
  EXPECT(loracle_lease_slot(lease, 0) != loracle_lease_slot(lease, 1));
  EXPECT(loracle_engine_adapter_id(engine, "a1", &id, NULL) == LORACLE_OK);
  EXPECT(loracle_lease_id(lease, 0) == id && id != 0);
  EXPECT(loracle_lease_id(lease, 2) == 0 && loracle_lease_slot(lease, 2) == LORACLE_NO_SLOT);
  EXPECT(loracle_lease_rank(lease, 2) == 0 && loracle_lease_count(NULL) == 0);
  EXPECT(stats_of(engine).leases == 1);
  loracle_lease_release(lease);
  loracle_lease_release(NULL);
  EXPECT(stats_of(engine).leases == 0);
  loracle_engine_close(engine);
  loracle_engine_close(NULL);
}

/* If this failed, a request that cannot be served would crash, hang, or leave a lease behind. */
static void requests_that_cannot_be_served_say_why(void) {
  loracle_engine* engine = open_engine(adapters, 2, 4);
  const char* const unknown[] = {"a0", "nobody"};
  const char* const missing[] = {"a0", NULL};
  loracle_error error = LORACLE_ERROR_INIT;
  loracle_lease* lease = (loracle_lease*)(void*)&error; /* must be overwritten */
  EXPECT(loracle_engine_acquire(engine, unknown, 2, 0, &lease, &error) == LORACLE_NOT_FOUND);
  EXPECT(lease == NULL && strstr(error.message, "nobody") != NULL);
  EXPECT(loracle_engine_acquire(engine, missing, 2, 0, &lease, &error) == LORACLE_INVALID);
  EXPECT(strstr(error.message, "names[1]") != NULL);
  EXPECT(loracle_engine_acquire(engine, all_names, 3, 0, &lease, &error) == LORACLE_TOO_LARGE);
  EXPECT(loracle_engine_acquire(engine, all_names, 0, 0, &lease, &error) == LORACLE_INVALID);
  EXPECT(loracle_engine_acquire(engine, all_names, SIZE_MAX / 16, 0, &lease, &error) == LORACLE_INVALID);
  EXPECT(loracle_engine_acquire(engine, NULL, 1, 0, &lease, &error) == LORACLE_INVALID);
  EXPECT(loracle_engine_acquire(engine, all_names, 1, 0, NULL, &error) == LORACLE_INVALID);
  EXPECT(loracle_engine_acquire(NULL, all_names, 1, 0, &lease, &error) == LORACLE_INVALID);
  EXPECT(error.code == LORACLE_INVALID && strstr(error.message, "engine") != NULL);
  EXPECT(stats_of(engine).leases == 0);
  EXPECT(loracle_engine_acquire(engine, all_names, 2, LORACLE_NO_TIMEOUT, &lease, &error) == LORACLE_OK);
  EXPECT(error.code == LORACLE_OK && error.message == NULL);
  loracle_lease_release(lease);
  loracle_engine_close(engine);
}

/* If this failed, a caller could not bound how long it waits. */
static void a_deadline_ends_the_wait(void) {
  loracle_engine* engine = open_engine(adapters, 1, 4);
  loracle_lease* held = acquire_one(engine, "a0");
  loracle_lease* lease = NULL;
  EXPECT(loracle_engine_acquire(engine, &all_names[1], 1, MILLISECOND, &lease, NULL) == LORACLE_DEADLINE);
  EXPECT(lease == NULL);
  loracle_lease_release(held);
  EXPECT(loracle_engine_acquire(engine, &all_names[1], 1, LORACLE_NO_TIMEOUT, &lease, NULL) == LORACLE_OK);
  loracle_lease_release(lease);
  loracle_engine_close(engine);
}

typedef struct answer {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int told;
  loracle_status status;
  loracle_lease* lease;
  char message[256];
} answer;

static void answer_init(answer* to) {
  memset(to, 0, sizeof *to);
  pthread_mutex_init(&to->mutex, NULL);
  pthread_cond_init(&to->changed, NULL);
}

static void answer_destroy(answer* to) {
  pthread_cond_destroy(&to->changed);
  pthread_mutex_destroy(&to->mutex);
}

static void on_acquired(void* user, loracle_lease* lease, const loracle_error* error) {
  answer* const to = user;
  pthread_mutex_lock(&to->mutex);
  ++to->told;
  to->status = error->code;
  to->lease = lease;
  if (error->message != NULL) snprintf(to->message, sizeof to->message, "%s", error->message);
  pthread_cond_signal(&to->changed);
  pthread_mutex_unlock(&to->mutex);
}

static void wait_for(answer* from) {
  pthread_mutex_lock(&from->mutex);
  while (from->told == 0) pthread_cond_wait(&from->changed, &from->mutex);
  EXPECT(from->told == 1);
  pthread_mutex_unlock(&from->mutex);
}

/* If this failed, an event loop could not use the engine, or would be told twice, or never. */
static void an_asynchronous_request_is_told_once(void) {
  loracle_engine* engine = open_engine(adapters, 1, 4);
  const char* const nobody = "nobody";
  answer served;
  answer late;
  answer unknown;
  answer refused;
  loracle_error error = LORACLE_ERROR_INIT;
  answer_init(&served);
  answer_init(&late);
  answer_init(&unknown);
  answer_init(&refused);
  EXPECT(loracle_engine_acquire_async(engine, all_names, 1, LORACLE_NO_TIMEOUT, on_acquired, &served,
                                      &error) == LORACLE_OK);
  wait_for(&served);
  EXPECT(served.status == LORACLE_OK && loracle_lease_count(served.lease) == 1);
  EXPECT(loracle_engine_acquire_async(engine, &all_names[1], 1, 5 * MILLISECOND, on_acquired, &late,
                                      &error) == LORACLE_OK);
  wait_for(&late);
  EXPECT(late.status == LORACLE_DEADLINE && late.lease == NULL);
  loracle_lease_release(served.lease);
  EXPECT(loracle_engine_acquire_async(engine, &nobody, 1, 0, on_acquired, &unknown, &error) == LORACLE_OK);
  wait_for(&unknown);
  EXPECT(unknown.status == LORACLE_NOT_FOUND && strstr(unknown.message, nobody) != NULL);
  EXPECT(loracle_engine_acquire_async(engine, &nobody, 1, 0, NULL, NULL, &error) == LORACLE_INVALID);
  EXPECT(loracle_engine_acquire_async(engine, NULL, 1, 0, on_acquired, &refused, &error) == LORACLE_INVALID);
  EXPECT(refused.told == 0);
  loracle_error_clear(&error);
  loracle_engine_close(engine);
  answer_destroy(&served);
  answer_destroy(&late);
  answer_destroy(&unknown);
  answer_destroy(&refused);
}

static void let_go_at_once(void* user, loracle_lease* lease, const loracle_error* error) {
  (void)error;
  loracle_lease_release(lease);
  on_acquired(user, NULL, error);
}

/* If this failed, closing with requests on their way would leave callbacks that touch freed memory. */
static void closing_ends_what_is_waiting(void) {
  answer told[4];
  size_t i = 0;
  loracle_engine* engine = open_engine(adapters, 1, 1);
  for (i = 0; i < 4; ++i) {
    answer_init(&told[i]);
    EXPECT(loracle_engine_acquire_async(engine, &all_names[i], 1, 3600 * 1000 * MILLISECOND, let_go_at_once,
                                        &told[i], NULL) == LORACLE_OK);
  }
  loracle_engine_close(engine);
  for (i = 0; i < 4; ++i) {
    EXPECT(told[i].told == 1);
    EXPECT(told[i].status == LORACLE_OK || told[i].status == LORACLE_CANCELLED);
    answer_destroy(&told[i]);
  }
}

/* If this failed, a program could not read back what it was told an id means. */
static void names_and_ids_belong_together(void) {
  loracle_engine* engine = open_engine(adapters, 1, 4);
  char name[LORACLE_NAME_BYTES_MAX];
  uint32_t id = 0;
  loracle_error error = LORACLE_ERROR_INIT;
  EXPECT(loracle_engine_adapter_id(engine, "a2", &id, &error) == LORACLE_OK);
  EXPECT(loracle_engine_adapter_name(engine, id, name, sizeof name, &error) == LORACLE_OK);
  EXPECT(strcmp(name, "a2") == 0);
  EXPECT(loracle_engine_adapter_name(engine, id, name, 3, &error) == LORACLE_OK);
  EXPECT(loracle_engine_adapter_name(engine, id, name, 2, &error) == LORACLE_TOO_LARGE);
  EXPECT(name[0] == '\0');
  EXPECT(loracle_engine_adapter_name(engine, id, NULL, 0, &error) == LORACLE_INVALID);
  EXPECT(loracle_engine_adapter_name(engine, 4000, name, sizeof name, &error) == LORACLE_NOT_FOUND);
  EXPECT(loracle_engine_adapter_id(engine, "nobody", &id, &error) == LORACLE_NOT_FOUND);
  EXPECT(id == 0);
  loracle_error_clear(&error);
  loracle_engine_close(engine);
}

/* If this failed, an operator's view of the tiers would not be what the tiers hold. */
static void the_list_says_who_is_where(void) {
  loracle_engine* engine = open_engine(adapters, 1, 2);
  loracle_list* list = NULL;
  loracle_adapter adapter;
  uint32_t early[2] = {7, 7};
  loracle_lease* lease = acquire_one(engine, "a1");
  EXPECT(loracle_engine_list(engine, &list, NULL) == LORACLE_OK);
  EXPECT(loracle_list_count(list) == 4 && loracle_list_count(NULL) == 0);
  EXPECT(loracle_list_at(list, 1, &adapter, sizeof adapter) == LORACLE_OK);
  EXPECT(strcmp(adapter.name, "a1") == 0 && adapter.rank == 8 && adapter.bytes > 0);
  EXPECT(adapter.on_device == 1 && adapter.on_host == 1 && adapter.pinned == 0 && adapter.leases == 1);
  EXPECT(adapter.slot == 0 && adapter.uses == 1);
  EXPECT(loracle_list_at(list, 0, &adapter, sizeof adapter) == LORACLE_OK);
  EXPECT(strcmp(adapter.name, "a0") == 0 && adapter.on_host == 0 && adapter.slot == LORACLE_NO_SLOT);
  EXPECT(loracle_list_at(list, 4, &adapter, sizeof adapter) == LORACLE_NOT_FOUND);
  EXPECT(loracle_list_at(NULL, 0, &adapter, sizeof adapter) == LORACLE_INVALID);
  EXPECT(loracle_list_at(list, 0, NULL, 0) == LORACLE_INVALID);
  loracle_lease_release(lease);
  EXPECT(loracle_engine_adapter(engine, "a1", &adapter, sizeof adapter, NULL) == LORACLE_OK);
  EXPECT(adapter.leases == 0 && adapter.on_device == 1);
  EXPECT(loracle_engine_adapter(engine, "a1", (loracle_adapter*)(void*)early, sizeof early[0], NULL) ==
         LORACLE_OK);
  EXPECT(early[1] == 7); /* a caller that knows fewer fields gets no more */
  EXPECT(loracle_engine_adapter(engine, "nobody", &adapter, sizeof adapter, NULL) == LORACLE_NOT_FOUND);
  loracle_engine_close(engine);
  EXPECT(loracle_list_at(list, 3, &adapter, sizeof adapter) == LORACLE_OK); /* it outlives the engine */
  loracle_list_free(list);
  loracle_list_free(NULL);
}

/* If this failed, what an operator pins, warms or frees would not stay as it was put. */
static void adapters_can_be_moved_by_hand(void) {
  loracle_engine* engine = open_engine(adapters, 1, 4);
  loracle_adapter adapter;
  loracle_lease* lease = NULL;
  EXPECT(loracle_engine_load_many(engine, all_names, 2, LORACLE_NO_TIMEOUT, NULL) == LORACLE_OK);
  EXPECT(loracle_engine_adapter(engine, "a1", &adapter, sizeof adapter, NULL) == LORACLE_OK);
  EXPECT(adapter.on_host == 1 && adapter.on_device == 0);
  EXPECT(loracle_engine_activate(engine, "a1", LORACLE_NO_TIMEOUT, NULL) == LORACLE_OK);
  EXPECT(loracle_engine_adapter(engine, "a1", &adapter, sizeof adapter, NULL) == LORACLE_OK);
  EXPECT(adapter.on_device == 1);
  EXPECT(loracle_engine_deactivate(engine, "a1", NULL) == LORACLE_OK);
  EXPECT(loracle_engine_pin(engine, "a0", LORACLE_DEVICE, LORACLE_NO_TIMEOUT, NULL) == LORACLE_OK);
  EXPECT(loracle_engine_deactivate(engine, "a0", NULL) == LORACLE_ALL_PINNED);
  EXPECT(loracle_engine_acquire(engine, &all_names[1], 1, LORACLE_NO_TIMEOUT, &lease, NULL) ==
         LORACLE_ALL_PINNED);
  EXPECT(loracle_engine_pin(engine, "a0", 5, 0, NULL) == LORACLE_INVALID);
  EXPECT(loracle_engine_unpin(engine, "a0", -1, NULL) == LORACLE_INVALID);
  EXPECT(loracle_engine_unpin(engine, "a0", LORACLE_HOST, NULL) == LORACLE_OK);
  loracle_lease_release(acquire_one(engine, "a1"));
  EXPECT(loracle_engine_prefetch(engine, &all_names[3], 1, LORACLE_HOST, NULL) == LORACLE_OK);
  EXPECT(loracle_engine_prefetch(engine, &all_names[3], 1, 9, NULL) == LORACLE_INVALID);
  EXPECT(loracle_engine_set_policy(engine, LORACLE_HOST, "sieve", NULL) == LORACLE_OK);
  EXPECT(strcmp(stats_of(engine).host.policy, "sieve") == 0);
  EXPECT(loracle_engine_set_policy(engine, LORACLE_HOST, "no-such", NULL) == LORACLE_NOT_FOUND);
  EXPECT(loracle_engine_set_policy(engine, LORACLE_HOST, NULL, NULL) == LORACLE_INVALID);
  loracle_engine_close(engine);
}

/* If this failed, adapters that appear, change or go would not be noticed, or not be told of. */
static void a_refresh_tells_what_changed(void) {
  char* const folder = fixture_new_folder();
  char path[512];
  loracle_engine* engine = NULL;
  loracle_refresh* report = NULL;
  loracle_lease* lease = NULL;
  const char* const changed = "changed";
  uint32_t id = 0;
  EXPECT(fixture_make_adapter(folder, "kept", 4, 1) == 0);
  EXPECT(fixture_make_adapter(folder, "changed", 4, 1) == 0);
  EXPECT(fixture_make_adapter(folder, "gone", 8, 1) == 0);
  engine = open_engine(folder, 2, 4);
  EXPECT(fixture_make_adapter(folder, "changed", 4, 2) == 0);
  EXPECT(loracle_engine_acquire(engine, &changed, 1, LORACLE_NO_TIMEOUT, &lease, NULL) == LORACLE_CORRUPT);
  EXPECT(fixture_make_adapter(folder, "added", 8, 1) == 0);
  EXPECT(fixture_make_adapter(folder, "broken", 8, 1) == 0);
  snprintf(path, sizeof path, "%s/gone", folder);
  fixture_remove(path);
  snprintf(path, sizeof path, "%s/broken/adapter_model.safetensors", folder);
  fixture_remove(path);
  EXPECT(loracle_engine_refresh(engine, &report, NULL) == LORACLE_OK);
  EXPECT(loracle_refresh_count(report, LORACLE_ADDED) == 1);
  EXPECT(strcmp(loracle_refresh_name(report, LORACLE_ADDED, 0), "added") == 0);
  EXPECT(loracle_refresh_name(report, LORACLE_ADDED, 1) == NULL);
  EXPECT(loracle_refresh_count(report, LORACLE_CHANGED) == 1);
  EXPECT(strcmp(loracle_refresh_name(report, LORACLE_CHANGED, 0), "changed") == 0);
  EXPECT(loracle_refresh_count(report, LORACLE_VANISHED) == 1);
  EXPECT(strcmp(loracle_refresh_name(report, LORACLE_VANISHED, 0), "gone") == 0);
  EXPECT(loracle_refresh_count(report, LORACLE_REJECTED) == 1);
  EXPECT(strncmp(loracle_refresh_name(report, LORACLE_REJECTED, 0), "broken: ", 8) == 0);
  EXPECT(loracle_refresh_count(report, LORACLE_UNCHANGED) == 1);
  EXPECT(loracle_refresh_name(report, LORACLE_UNCHANGED, 0) == NULL);
  EXPECT(loracle_refresh_count(report, 42) == 0 && loracle_refresh_count(NULL, LORACLE_ADDED) == 0);
  EXPECT(loracle_refresh_name(NULL, LORACLE_ADDED, 0) == NULL);
  EXPECT(loracle_engine_refresh(engine, NULL, NULL) == LORACLE_OK);
  loracle_lease_release(acquire_one(engine, changed));

  snprintf(path, sizeof path, "%s/a3", adapters);
  EXPECT(loracle_engine_add(engine, "by-hand", path, &id, NULL) == LORACLE_OK && id != 0);
  loracle_lease_release(acquire_one(engine, "by-hand"));
  EXPECT(loracle_engine_add(engine, "../escape", path, &id, NULL) == LORACLE_INVALID && id == 0);
  EXPECT(loracle_engine_add(engine, "x", NULL, NULL, NULL) == LORACLE_INVALID);
  EXPECT(loracle_engine_remove(engine, "by-hand", NULL) == LORACLE_OK);
  EXPECT(loracle_engine_remove(engine, "by-hand", NULL) == LORACLE_NOT_FOUND);
  loracle_engine_close(engine);
  EXPECT(loracle_refresh_count(report, LORACLE_ADDED) == 1); /* it outlives the engine */
  loracle_refresh_free(report);
  loracle_refresh_free(NULL);
  fixture_remove(folder);
  free(folder);
}

static int all_zero(const unsigned char* bytes, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i)
    if (bytes[i] != 0) return 0;
  return 1;
}

/* If this failed, a kernel that is given these addresses would compute with another adapter's weights. */
static void slots_hold_the_weights_where_the_layout_says(void) {
  loracle_engine* engine = open_engine(adapters, 3, 4);
  loracle_layout layout;
  loracle_slice slice;
  loracle_lease* lease = acquire_one(engine, "a0"); /* rank 4 of 8 */
  const uint64_t slot = loracle_lease_slot(lease, 0);
  EXPECT(loracle_engine_layout(engine, &layout, sizeof layout, NULL) == LORACLE_OK);
  EXPECT(layout.slots == 3 && layout.max_rank == 8 && layout.slices == 4); /* q and v of two layers */
  EXPECT(layout.element_bytes == 2 && layout.dtype == LORACLE_BF16);
  EXPECT(layout.memory == LORACLE_MEMORY_HOST);
  uint64_t slot_bytes = 0;
  for (uint32_t i = 0; i < layout.slices; ++i) {
    EXPECT(loracle_engine_slice(engine, i, &slice, sizeof slice, NULL) == LORACLE_OK);
    EXPECT(strstr(slice.module, "_proj") != NULL && slice.in == 64);
    EXPECT(slice.a_slot_bytes == UINT64_C(8) * slice.in * 2);
    EXPECT(slice.b_slot_bytes == UINT64_C(8) * slice.out * 2);
    slot_bytes += slice.a_slot_bytes + slice.b_slot_bytes;
    const unsigned char* const a = (const unsigned char*)slice.a;
    const unsigned char* const mine = a + slot * slice.a_slot_bytes;
    EXPECT(!all_zero(mine, slice.a_slot_bytes / 2));                         /* rows 0 .. 3 */
    EXPECT(all_zero(mine + slice.a_slot_bytes / 2, slice.a_slot_bytes / 2)); /* rows 4 .. 7 */
    EXPECT(all_zero(a + (slot + 1) % 3 * slice.a_slot_bytes, slice.a_slot_bytes));
    EXPECT(!all_zero((const unsigned char*)slice.b + slot * slice.b_slot_bytes, slice.b_slot_bytes));
  }
  EXPECT(layout.slot_bytes == slot_bytes);
  EXPECT(loracle_engine_slice(engine, layout.slices, &slice, sizeof slice, NULL) == LORACLE_NOT_FOUND);
  EXPECT(loracle_engine_layout(engine, NULL, sizeof layout, NULL) == LORACLE_INVALID);
  loracle_lease_release(lease);
  loracle_engine_close(engine);
}

/* If this failed, what the engine did could not be measured from C. */
static void stats_count_what_happened(void) {
  loracle_engine* engine = open_engine(adapters, 1, 4);
  loracle_stats stats;
  struct {
    loracle_stats known;
    uint64_t of_a_later_version;
  } later;
  loracle_lease_release(acquire_one(engine, "a0"));
  loracle_lease_release(acquire_one(engine, "a0"));
  loracle_lease_release(acquire_one(engine, "a1"));
  stats = stats_of(engine);
  EXPECT(stats.uses == 3 && stats.gpu_hits == 1 && stats.disk_loads == 2 && stats.gpu_evictions == 1);
  EXPECT(stats.requests == 3 && stats.loads == 2 && stats.copies == 2 && stats.adapters_known == 4);
  EXPECT(stats.device.entries == 1 && stats.device.entries_max == 1 && stats.host.entries == 2);
  EXPECT(strcmp(stats.device.policy, "lru") == 0);
  EXPECT(stats.load_latency.count == 2 && stats.load_latency.sum_ns > 0);
  EXPECT(loracle_latency_quantile_ns(&stats.load_latency, 0.5) > 0);
  EXPECT(loracle_latency_quantile_ns(&stats.load_latency, 0.5) <=
         loracle_latency_quantile_ns(&stats.load_latency, 1.0));
  EXPECT(loracle_latency_quantile_ns(NULL, 0.5) == 0);
  later.of_a_later_version = 7;
  EXPECT(loracle_engine_stats(engine, &later.known, sizeof later, NULL) == LORACLE_OK);
  EXPECT(later.known.uses == 3 && later.of_a_later_version == 0);
  EXPECT(loracle_engine_stats(engine, NULL, sizeof stats, NULL) == LORACLE_INVALID);
  loracle_engine_close(engine);
}

/* If this failed, a program that shuts down in steps would crash in the second. */
static void after_a_shutdown_requests_are_refused(void) {
  loracle_engine* engine = open_engine(adapters, 1, 4);
  loracle_lease* lease = NULL;
  EXPECT(loracle_engine_shutdown(engine, NULL) == LORACLE_OK);
  EXPECT(loracle_engine_shutdown(engine, NULL) == LORACLE_OK);
  EXPECT(loracle_engine_acquire(engine, all_names, 1, 0, &lease, NULL) == LORACLE_CANCELLED);
  EXPECT(stats_of(engine).adapters_known == 4);
  loracle_engine_close(engine);
  EXPECT(loracle_engine_shutdown(NULL, NULL) == LORACLE_INVALID);
}

typedef struct worker {
  pthread_t thread;
  loracle_engine* engine;
  unsigned seed;
  int failed;
} worker;

static void* acquire_in_a_loop(void* argument) {
  worker* const self = argument;
  for (int round = 0; round < 200; ++round) {
    self->seed = self->seed * 1103515245U + 12345U;
    const size_t first = self->seed >> 16 & 3U;
    const size_t count = first == 3 ? 1 : 1 + (self->seed >> 20 & 1U);
    loracle_lease* lease = NULL;
    if (loracle_engine_acquire(self->engine, &all_names[first], count, LORACLE_NO_TIMEOUT, &lease, NULL) !=
        LORACLE_OK)
      ++self->failed;
    if (loracle_lease_count(lease) != count) ++self->failed;
    loracle_lease_release(lease);
  }
  return NULL;
}

/* If this failed, the promise that any thread may call anything would be broken. */
static void many_threads_may_use_one_engine(void) {
  enum { kThreads = 4 };
  worker workers[kThreads];
  loracle_engine* engine = open_engine(adapters, 2, 3);
  for (unsigned i = 0; i < kThreads; ++i) {
    workers[i].engine = engine;
    workers[i].seed = i + 1;
    workers[i].failed = 0;
    EXPECT(pthread_create(&workers[i].thread, NULL, acquire_in_a_loop, &workers[i]) == 0);
  }
  for (unsigned i = 0; i < kThreads; ++i) {
    pthread_join(workers[i].thread, NULL);
    EXPECT(workers[i].failed == 0);
  }
  EXPECT(stats_of(engine).leases == 0);
  EXPECT(stats_of(engine).requests == kThreads * 200);
  loracle_engine_close(engine);
}

/* If this failed, logs would show numbers, or crash on one. */
static void every_status_has_a_name(void) {
  EXPECT(strcmp(loracle_status_name(LORACLE_OK), "ok") == 0);
  EXPECT(strcmp(loracle_status_name(LORACLE_NOT_FOUND), "not_found") == 0);
  EXPECT(strcmp(loracle_status_name(LORACLE_CANCELLED), "cancelled") == 0);
  EXPECT(strcmp(loracle_status_name(LORACLE_NO_MEMORY), "no_memory") == 0);
  EXPECT(strcmp(loracle_status_name(LORACLE_INTERNAL), "internal") == 0);
  EXPECT(strcmp(loracle_status_name(50), "unknown") == 0);
  EXPECT(strcmp(loracle_status_name(-1), "unknown") == 0);
  EXPECT(strlen(loracle_version()) >= 5);
  loracle_error_clear(NULL);
}

int main(void) {
  adapters = fixture_new_folder();
  if (adapters == NULL) return 2;
  for (uint32_t i = 0; i < 4; ++i)
    EXPECT(fixture_make_adapter(adapters, all_names[i], i % 2 == 0 ? 4 : 8, 1) == 0);
  configs_of_other_versions_are_understood();
  wrong_settings_are_named();
  exceptions_end_at_the_border();
  a_lease_names_ids_slots_and_ranks();
  requests_that_cannot_be_served_say_why();
  a_deadline_ends_the_wait();
  an_asynchronous_request_is_told_once();
  closing_ends_what_is_waiting();
  names_and_ids_belong_together();
  the_list_says_who_is_where();
  adapters_can_be_moved_by_hand();
  a_refresh_tells_what_changed();
  slots_hold_the_weights_where_the_layout_says();
  stats_count_what_happened();
  after_a_shutdown_requests_are_refused();
  many_threads_may_use_one_engine();
  every_status_has_a_name();
  fixture_remove(adapters);
  free(adapters);
  printf("%s\n", failures == 0 ? "ok" : "FAILED");
  return failures == 0 ? 0 : 1;
}
