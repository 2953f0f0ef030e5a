#include "trace_builder.hpp"

#include <xxhash.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

namespace loracle {
namespace {

constexpr std::size_t kCellsMin = 1024;
constexpr std::uint32_t kUnseen = 0xFFFF'FFFFU;

/// Appends to a column that begins with the first request that has the fact.
template <class T>
void append(std::vector<T>& column, std::uint64_t requests_before, std::optional<T> value, T unknown) {
  if (column.empty()) {
    if (!value) return;
    column.resize(requests_before, unknown);
  }
  column.push_back(value.value_or(unknown));
}

template <class T>
void permute(std::vector<T>& column, const std::vector<std::uint64_t>& order) {
  if (column.empty()) return;
  std::vector<T> permuted(column.size());
  for (std::size_t i = 0; i < order.size(); ++i) permuted[i] = column[order[i]];
  column = std::move(permuted);
}

}  // namespace

NameTable::NameTable() : begin_(1, 0), cells_(kCellsMin) {}

void NameTable::grow() {
  std::vector<Cell> larger(cells_.size() * 2);
  const std::size_t mask = larger.size() - 1;
  // Only 32 bits of each hash are kept, so names are hashed again; it happens once per doubling.
  for (std::uint32_t id = 0; id < size(); ++id) {
    const std::string_view name = (*this)[id];
    const std::uint64_t hash = XXH3_64bits(name.data(), name.size());
    std::size_t at = static_cast<std::size_t>(hash) & mask;
    while (larger[at].id != kEmpty) at = (at + 1) & mask;
    larger[at] = {static_cast<std::uint32_t>(hash >> 32U), id};
  }
  cells_ = std::move(larger);
}

std::uint32_t NameTable::intern(std::string_view name) {
  const std::uint64_t hash = XXH3_64bits(name.data(), name.size());
  const auto tag = static_cast<std::uint32_t>(hash >> 32U);
  const std::size_t mask = cells_.size() - 1;
  std::size_t at = static_cast<std::size_t>(hash) & mask;
  for (; cells_[at].id != kEmpty; at = (at + 1) & mask)
    if (cells_[at].tag == tag && (*this)[cells_[at].id] == name) return cells_[at].id;
  const std::uint32_t id = size();
  cells_[at] = {tag, id};
  text_.insert(text_.end(), name.begin(), name.end());
  begin_.push_back(text_.size());
  if (std::size_t{size()} * 2 > cells_.size()) grow();
  return id;
}

NameColumn NameTable::take() {
  NameColumn column;
  if (size() > 0) {
    column.begin = Column<std::uint64_t>(std::move(begin_));
    column.text = Column<char>(std::move(text_));
  }
  *this = NameTable();
  return column;
}

NameColumn NameTable::take(const std::vector<std::uint32_t>& order) {
  NameTable ordered;
  ordered.text_.reserve(text_.size());
  ordered.begin_.reserve(begin_.size());
  for (const std::uint32_t id : order) {
    const std::string_view name = (*this)[id];
    ordered.text_.insert(ordered.text_.end(), name.begin(), name.end());
    ordered.begin_.push_back(ordered.text_.size());
  }
  *this = NameTable();
  return ordered.take();
}

void RequestDraft::clear() noexcept {
  adapters.clear();
  tenant = {};
  arrival_s.reset();
  input_tokens.reset();
  output_tokens.reset();
  duration_s.reset();
}

/// Drops repeats among the uses from `first_use` on, and closes the request.
void TraceBuilder::add_uses_of_request(std::size_t first_use) {
  // A request has a handful of adapters, so looking back is cheaper than a set.
  std::size_t kept = first_use;
  for (std::size_t i = first_use; i < uses_.size(); ++i) {
    const auto begin = uses_.begin() + static_cast<std::ptrdiff_t>(first_use);
    const auto end = uses_.begin() + static_cast<std::ptrdiff_t>(kept);
    if (std::find(begin, end, uses_[i]) == end) uses_[kept++] = uses_[i];
  }
  uses_.resize(kept);
  if (use_begin_.empty() && kept - first_use != 1) {
    use_begin_.resize(requests_ + 1);
    std::iota(use_begin_.begin(), use_begin_.end(), std::uint64_t{0});
  }
  if (!use_begin_.empty()) use_begin_.push_back(kept);
}

void TraceBuilder::add(const RequestDraft& request) {
  const std::size_t first_use = uses_.size();
  for (const std::string_view adapter : request.adapters) uses_.push_back(Row{adapters_.intern(adapter)});
  add_uses_of_request(first_use);

  if (request.arrival_s) {
    if (requests_ > 0 && *request.arrival_s < latest_arrival_s_)
      ++reordered_;
    else
      latest_arrival_s_ = *request.arrival_s;
  }
  append(arrival_s_, requests_, request.arrival_s, 0.0);
  append(input_tokens_, requests_, request.input_tokens, std::uint32_t{0});
  append(output_tokens_, requests_, request.output_tokens, std::uint32_t{0});
  append(duration_s_, requests_, request.duration_s, 0.0F);
  append(
      tenant_, requests_,
      request.tenant.empty() ? std::nullopt : std::optional<std::uint32_t>(tenants_.intern(request.tenant)),
      kNoTenant);
  ++requests_;
}

void TraceBuilder::add_use(std::string_view adapter) {
  uses_.push_back(Row{adapters_.intern(adapter)});
  if (!use_begin_.empty()) use_begin_.push_back(uses_.size());
  ++requests_;
}

void TraceBuilder::describe(std::string_view adapter, std::uint64_t bytes, std::uint16_t rank) {
  const std::uint32_t id = adapters_.intern(adapter);
  if (bytes != 0) {
    if (bytes_.size() <= id) bytes_.resize(std::size_t{id} + 1, 0);
    bytes_[id] = bytes;
  }
  if (rank != 0) {
    if (rank_.size() <= id) rank_.resize(std::size_t{id} + 1, 0);
    rank_[id] = rank;
  }
}

void TraceBuilder::sort_by_arrival() {
  std::vector<std::uint64_t> order(requests_);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [this](std::uint64_t a, std::uint64_t b) { return arrival_s_[a] < arrival_s_[b]; });
  if (use_begin_.empty()) {
    permute(uses_, order);
  } else {
    std::vector<Row> uses;
    uses.reserve(uses_.size());
    std::vector<std::uint64_t> use_begin;
    use_begin.reserve(use_begin_.size());
    use_begin.push_back(0);
    for (const std::uint64_t request : order) {
      for (std::uint64_t use = use_begin_[request]; use < use_begin_[request + 1]; ++use)
        uses.push_back(uses_[use]);
      use_begin.push_back(uses.size());
    }
    uses_ = std::move(uses);
    use_begin_ = std::move(use_begin);
  }
  permute(arrival_s_, order);
  permute(input_tokens_, order);
  permute(output_tokens_, order);
  permute(tenant_, order);
  permute(duration_s_, order);
}

Result<Trace> TraceBuilder::finish() {
  // Ids are 32 bits wide and would have wrapped long after memory ran out; kNoRow must stay free all the
  // same.
  if (adapters_.size() == index_of(kNoRow) || tenants_.size() == kNoTenant)
    return fail(Errc::kTooLarge, "more than 4,294,967,294 different names: split the trace");
  if (reordered_ > 0) sort_by_arrival();
  if (from_earliest_ && !arrival_s_.empty()) {
    const double zero = arrival_s_.front();
    for (double& arrival : arrival_s_) arrival -= zero;
  }

  // Rows by first use; adapters that were only described come last, in the order of their description.
  std::vector<std::uint32_t> row_of(adapters_.size(), kUnseen);
  std::vector<std::uint32_t> order;
  order.reserve(adapters_.size());
  for (Row& use : uses_) {
    std::uint32_t& row = row_of[index_of(use)];
    if (row == kUnseen) {
      row = static_cast<std::uint32_t>(order.size());
      order.push_back(static_cast<std::uint32_t>(index_of(use)));
    }
    use = Row{row};
  }
  for (std::uint32_t id = 0; id < adapters_.size(); ++id)
    if (row_of[id] == kUnseen) order.push_back(id);

  Trace trace;
  trace.requests = requests_;
  trace.reordered = reordered_;
  trace.uses = Column<Row>(std::move(uses_));
  trace.use_begin = Column<std::uint64_t>(std::move(use_begin_));
  trace.arrival_s = Column<double>(std::move(arrival_s_));
  trace.input_tokens = Column<std::uint32_t>(std::move(input_tokens_));
  trace.output_tokens = Column<std::uint32_t>(std::move(output_tokens_));
  trace.tenant = Column<std::uint32_t>(std::move(tenant_));
  trace.duration_s = Column<float>(std::move(duration_s_));
  if (!bytes_.empty()) {
    std::vector<std::uint64_t> bytes(order.size(), 0);
    for (std::size_t row = 0; row < order.size(); ++row)
      if (order[row] < bytes_.size()) bytes[row] = bytes_[order[row]];
    trace.adapters.bytes = Column<std::uint64_t>(std::move(bytes));
  }
  if (!rank_.empty()) {
    std::vector<std::uint16_t> rank(order.size(), 0);
    for (std::size_t row = 0; row < order.size(); ++row)
      if (order[row] < rank_.size()) rank[row] = rank_[order[row]];
    trace.adapters.rank = Column<std::uint16_t>(std::move(rank));
  }
  trace.adapters.name = std::is_sorted(order.begin(), order.end()) ? adapters_.take() : adapters_.take(order);
  trace.tenant_name = tenants_.take();
  *this = TraceBuilder();
  return trace;
}

}  // namespace loracle
