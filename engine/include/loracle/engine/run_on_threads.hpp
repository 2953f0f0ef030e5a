#pragma once
/// Tasks on a few threads, for work at the edge: scans and runs of the simulator.

#include <cstddef>
#include <functional>

namespace loracle {

/// Calls `task` for 0 .. count - 1, each once, in the order of their numbers as threads come free, and
/// returns when all are done. `threads`: 0 = one a processor; the caller is one of them, and where the system
/// has no more to give, those there are do the work. `task` is called from several threads at once.
void run_on_threads(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& task);

}  // namespace loracle
