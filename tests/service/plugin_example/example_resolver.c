/* A resolver plugin to start from: adapters are folders below the directory that EXAMPLE_RESOLVER_ROOT names.
 *
 *   cc -shared -fPIC -I<include directory> -o example_resolver.so example_resolver.c
 *   EXAMPLE_RESOLVER_ROOT=/adapters loracle serve --resolver-plugins ./example_resolver.so ...
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "loracle/service/loracle_resolver.h"

static int example_open(void** state) {
  const char* root = getenv("EXAMPLE_RESOLVER_ROOT");
  if (root == NULL) return 1;
  *state = (void*)root;
  return 0;
}

/* Called from several threads at once: it keeps nothing but what `open` has made. */
static int example_resolve(void* state, const loracle_resolver_request* request,
                           const loracle_resolver_reply* reply) {
  char path[4096];
  struct stat found;
  const int length = snprintf(path, sizeof path, "%s/%s", (const char*)state, request->name);
  if (length < 0 || (size_t)length >= sizeof path) {
    reply->answer(reply->to, "the path is too long");
    return LORACLE_RESOLVER_REFUSED;
  }
  if (stat(path, &found) != 0) return LORACLE_RESOLVER_NOT_FOUND;
  reply->answer(reply->to, path);
  return LORACLE_RESOLVER_FOUND;
}

static const loracle_resolver kExample = {
    LORACLE_RESOLVER_ABI_VERSION, sizeof(loracle_resolver), "example", example_open, example_resolve, NULL};

const loracle_resolver* loracle_resolver_plugin(void) { return &kExample; }
