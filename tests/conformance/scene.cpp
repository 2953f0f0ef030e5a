#include "conformance/scene.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sstream>

#include "support/sanitized.hpp"

namespace loracle::testing {
namespace {

constexpr std::uint32_t kNone = 0xFFFF'FFFFU;

/// Three kinds of traffic in turn: skewed, a loop with jumps, and a few hot rows that change.
std::vector<Row> draw_uses(Rng& rng, std::uint32_t rows, std::uint32_t count) {
  std::vector<Row> uses;
  std::uint32_t position = 0;
  std::uint32_t kind = rng.below(3);
  std::uint32_t hot = rng.below(rows);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (rng.below(50) == 0) {
      kind = rng.below(3);
      hot = rng.below(rows);
    }
    std::uint32_t row = 0;
    if (kind == 0) {
      const double u = rng.uniform();
      row = static_cast<std::uint32_t>(u * u * u * rows);
    } else if (kind == 1) {
      position = rng.below(12) == 0 ? rng.below(rows) : (position + 1) % rows;
      row = position;
    } else {
      row = rng.below(3) == 0 ? rng.below(rows) : (hot + rng.below(4)) % rows;
    }
    uses.push_back(Row{std::min(row, rows - 1)});
  }
  return uses;
}

std::vector<std::uint32_t> next_of(const std::vector<Row>& uses, std::uint32_t rows) {
  std::vector<std::uint32_t> next(uses.size());
  std::vector<std::uint32_t> seen(rows, kNone);
  for (std::size_t i = uses.size(); i-- > 0;) {
    next[i] = seen[index_of(uses[i])];
    seen[index_of(uses[i])] = static_cast<std::uint32_t>(i);
  }
  return next;
}

}  // namespace

std::string Scene::describe() const {
  std::ostringstream text;
  text << "seed " << seed << ": " << rows << " rows, ";
  if (capacity.entries != kUnlimited) text << capacity.entries << " entries ";
  if (capacity.bytes.value != kUnlimited) text << capacity.bytes.value << " bytes";
  return text.str();
}

Scene make_scene(std::uint64_t seed, Limit limit, const SceneOptions& options) {
  Rng rng(seed * 3 + static_cast<std::uint64_t>(limit));
  Scene scene;
  scene.seed = seed;
  scene.options = options;
  scene.rows = 1 + rng.below(options.rows_max);
  const std::uint32_t entries = 1 + rng.below(options.entries_max);
  const bool sized = limit != Limit::kEntries || rng.below(2) == 0;
  const bool costed = rng.below(2) == 0;
  constexpr std::uint32_t kSizeMax = 30;
  for (std::uint32_t i = 0; i < scene.rows; ++i) {
    // One in ten is large: often larger than a queue inside a policy, at times than the whole tier.
    if (sized) scene.table.size.push_back(Bytes{1 + rng.below(rng.below(10) == 0 ? kSizeMax * 4 : kSizeMax)});
    constexpr std::array<float, 5> kCosts = {0.5F, 1.0F, 2.0F, 3.0F, 8.0F};
    if (costed) scene.table.reload_cost.push_back(kCosts[rng.below(kCosts.size())]);
  }
  scene.table.next_use.assign(scene.rows, kNever);
  if (limit != Limit::kBytes) scene.capacity.entries = entries;
  if (limit != Limit::kEntries) scene.capacity.bytes = Bytes{1 + rng.below(entries * kSizeMax)};
  scene.uses = draw_uses(rng, scene.rows, options.uses);
  scene.next = next_of(scene.uses, scene.rows);
  return scene;
}

Player::Player(const Scene& scene, Subject& subject, Observer observer)
    : scene_(scene),
      subject_(subject),
      observer_(std::move(observer)),
      table_(scene.table),
      rng_(scene.seed + 1),
      tracked_(scene.rows, false),
      holds_(scene.options.holds ? scene.rows : 0, 0) {}

void Player::play() {
  while (!::testing::Test::HasFailure() && step()) {
  }
}

bool Player::step() {
  if (at_ == scene_.uses.size()) return false;
  if (scene_.options.holds) change_holds();
  if (scene_.options.removals && rng_.below(16) == 0) {
    const Row row{rng_.below(scene_.rows)};
    if (tracked(row)) {
      subject_.on_remove(row);
      forget(row);
      told();
    }
  }
  const Row row = scene_.uses[at_];
  table_.next_use[index_of(row)] = scene_.next[at_] == kNone ? kNever : Tick{scene_.next[at_]};
  use(row);
  told();
  ++at_;
  return true;
}

void Player::forget(Row victim) {
  tracked_[index_of(victim)] = false;
  --used_.entries;
  used_.bytes -= table_.size_of(victim);
}

void Player::change_holds() {
  if (rng_.below(40) == 0) {  // everything at once, so that "all are blocked" happens with large tiers too
    const std::uint32_t all = rng_.below(2);
    std::fill(holds_.begin(), holds_.end(), all);
  }
  if (rng_.below(4) != 0) return;
  std::uint32_t& hold = holds_[rng_.below(scene_.rows)];
  hold = hold == 0 ? 1 + rng_.below(2) : hold - 1;
}

void Player::use(Row row) {
  if (subject_.contains(row)) {
    ++hits_;
    subject_.on_access(row, now(), table_);
    shed();
    return;
  }
  const Bytes size = table_.size_of(row);
  if (!fits(Occupancy{}, size, scene_.capacity)) return;
  if (!subject_.admit(row, now(), table_) && !held(row)) return;
  while (!fits(used_, size, scene_.capacity)) {
    const Row answer = subject_.evict(row, now(), table_, holds_);
    if (observer_.on_evict) observer_.on_evict(row, answer);
    if (::testing::Test::HasFailure() || answer == kNoRow || answer == row) return;
    ++evictions_;
    forget(answer);
  }
  subject_.on_insert(row, now(), table_);
  tracked_[index_of(row)] = true;
  ++used_.entries;
  used_.bytes += size;
  shed();
}

void Player::shed() {
  if (!scene_.options.sheds) return;
  for (Row row = subject_.shed(now(), table_, holds_); row != kNoRow;
       row = subject_.shed(now(), table_, holds_)) {
    if (observer_.on_shed) observer_.on_shed(row);
    if (::testing::Test::HasFailure()) return;
    forget(row);
  }
}

void Player::told() const {
  if (observer_.on_operation) observer_.on_operation();
}

bool soaking() {
  static const bool kSoaking = std::getenv("LORACLE_SOAK") != nullptr;
  return kSoaking;
}

std::uint64_t scenes(const SubjectSpec& spec, std::uint64_t count) {
  constexpr std::uint64_t kSlower = all_or_few(1, 3);
  if (soaking()) return count * 50;
  return std::max<std::uint64_t>(2, count / kSlower / (base_name(spec) == "lhd" ? 4 : 1));
}

}  // namespace loracle::testing
