#ifndef LORACLE_TESTS_C_API_FIXTURE_H
#define LORACLE_TESTS_C_API_FIXTURE_H
/* What the C test needs and the C interface does not have: adapters on disk. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A new empty folder; freed with free(), removed with fixture_remove. NULL if it cannot be made. */
char* fixture_new_folder(void);
/* A file or folder and everything in it. */
void fixture_remove(const char* path);
/* Writes the adapter FOLDER/name of the model "tiny", in place of what is there. 0: done. */
int fixture_make_adapter(const char* folder, const char* name, uint32_t rank, uint64_t seed);

#ifdef __cplusplus
}
#endif

#endif
