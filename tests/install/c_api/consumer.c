/* The engine in a C program: opens it over a folder of adapters, brings two of them to the device, says where
 * they are.   consumer <folder of adapters>
 * If it fails, the C interface cannot be built against, linked or run from an install. */

#include <inttypes.h>
#include <loracle.h>
#include <stdio.h>

static int complain(const char* what, const loracle_error* error) {
  fprintf(stderr, "FAILED: %s: %s: %s\n", what, loracle_status_name(error->code), error->message);
  return 1;
}

static int serve(loracle_engine* engine, loracle_error* error) {
  const char* const names[] = {"adapter-0002", "adapter-0000"};
  loracle_lease* lease = NULL;
  loracle_slice slice;
  if (loracle_engine_acquire(engine, names, 2, UINT64_C(10000000000), &lease, error) != LORACLE_OK)
    return complain("acquire", error);
  if (loracle_engine_slice(engine, 0, &slice, sizeof slice, error) != LORACLE_OK)
    return complain("slice", error);
  for (size_t i = 0; i < loracle_lease_count(lease); ++i) {
    const uint32_t slot = loracle_lease_slot(lease, i);
    printf("%s: lora_int_id %" PRIu32 ", slot %" PRIu32 ", A of %s at %p\n", names[i],
           loracle_lease_id(lease, i), slot, slice.module,
           (void*)((char*)slice.a + slot * slice.a_slot_bytes));
  }
  loracle_lease_release(lease);
  return 0;
}

int main(int argc, char** argv) {
  loracle_config config;
  loracle_error error = LORACLE_ERROR_INIT;
  loracle_engine* engine = NULL;
  int status = 0;
  if (argc != 2) return 2;
  loracle_config_init(&config, sizeof config);
  config.directory = argv[1];
  config.max_loras = 2;
  config.policy = "sieve/gdsf";
  if (loracle_engine_open(&config, &engine, &error) == LORACLE_OK)
    status = serve(engine, &error);
  else
    status = complain(argv[1], &error);
  loracle_error_clear(&error);
  loracle_engine_close(engine);
  printf("loracle %s: %s\n", loracle_version(), status == 0 ? "ok" : "FAILED");
  return status;
}
