#pragma once
/// The origin of what lies with a storage provider: a URI becomes a leased directory of a cache.
///
/// The provider is asked what the adapter consists of (its manifest: one round trip, or up to four where it
/// cannot list), and that names the entry of the cache. If it is there, it is leased; if not, room is made,
/// the files are fetched into it in parts, it is published and leased. Who names the content that is wanted
/// (localize_content: every load of a catalogued adapter) gets it from the cache without the provider being
/// asked: neither its absence, nor its refusals, nor an upload is in the way of what lies here. Not in the
/// cache, and no longer what lies with the provider: kCorrupt, before the first byte.
/// Invariants:
///  1. Any number of callers, from any thread, cost one download of a content, and share its error.
///  2. An adapter that changes while it is fetched is fetched anew, `restarts_max` times, and is never a
///     mixture.
///  3. LocalCopy.content is the manifest's, .hold the lease of the entry.
/// If the provider cannot be reached (kIo, kDeadline; not where it answers with a refusal), the content that
/// was last seen under the URI is served, if it is in the cache: `served_stale` counts it. That survives a
/// restart. Entries carry the SHA-256 of their URI as metadata, not the URI: it may be a secret.
/// Stopping it ends its downloads and stops its provider; what lies in the cache is served on.
/// Threads: any. The provider and the cache must outlive the origin; leases may outlive all three.
/// Errors: those of provider and cache; kBusy where the cache has had no room for room_wait_ms, because all
/// that could make some was leased.

#include <cstdint>
#include <memory>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/engine/origin.hpp"
#include "loracle/storage/cache.hpp"
#include "loracle/storage/fetch_adapter.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

struct RemoteOriginOptions {
  FetchAdapterOptions fetch;
  std::uint32_t restarts_max = 3;
  std::uint32_t room_wait_ms = 30'000;  // for a lease to end, where all that could make room is leased
};

struct RemoteOriginStats {
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;     // requests
  std::uint64_t manifests = 0;  // asked for
  std::uint64_t hits = 0;       // served from the cache
  std::uint64_t downloads = 0;  // begun
  std::uint64_t downloaded_bytes = 0;
  std::uint64_t shared = 0;    // joined a download that was under way
  std::uint64_t restarts = 0;  // changed in mid-download
  std::uint64_t served_stale = 0;
};

class RemoteOrigin : public Origin {
 public:
  [[nodiscard]] virtual RemoteOriginStats stats() const = 0;
};

[[nodiscard]] std::unique_ptr<RemoteOrigin> make_remote_origin(StorageProvider& provider, CacheBackend& cache,
                                                               const RemoteOriginOptions& options = {});

}  // namespace loracle
