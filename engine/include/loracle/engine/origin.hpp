#pragma once
/// Where adapters come from: a URI becomes a directory of this machine that files can be read from.
///
/// An origin answers for one scheme. `localize` brings what the URI names to this machine, if it is not
/// there, and says where it lies; it may take long, and is called without locks. `file://`, and plain paths,
/// are the first origin: what they name is where it is. Others are in loracle/storage.
/// Threads: any. Errors: kInvalid (not a URI this origin can read; says what is wrong), kUnsupported (a
/// scheme nobody answers for), and those of fetching.

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/engine/files.hpp"

namespace loracle {

/// What a URI names, on this machine.
struct LocalCopy {
  std::string directory;
  /// Tells contents apart: equal for equal bytes, never equal for others. Empty where files are served in
  /// place, and must be compared by their stats.
  std::string content;
  /// While it lives, the directory stays as it is.
  std::shared_ptr<const void> hold;
  bool is_stale = false;  // nobody could be asked: what was last seen there
};

/// An adapter where it lies.
struct RemoteView {
  std::string content;  // that localize would answer
  /// What reads its files, of that content only: one that has changed is kCorrupt. Paths are URI/NAME, of the
  /// URI without slashes at its end. The origin must outlive it.
  std::unique_ptr<Files> files;
};

class Origin {
 public:
  virtual ~Origin() = default;
  /// "file", "s3", ...: lower case, without "://".
  [[nodiscard]] virtual std::string_view scheme() const noexcept = 0;
  /// REQUIRES: the URI has this scheme, or none for "file".
  [[nodiscard]] virtual Result<LocalCopy> localize(const std::string& uri) = 0;
  /// For who knows which content is wanted: an origin that has it here need not ask whether the URI still
  /// names it. What is answered may be another content all the same; kCorrupt where that is known before it
  /// is brought here.
  [[nodiscard]] virtual Result<LocalCopy> localize_content(const std::string& uri,
                                                           const std::string& content);
  /// What is known to lie on this machine of that content: nothing is fetched, nobody is asked, no disk is
  /// searched. kNotFound.
  [[nodiscard]] virtual Result<LocalCopy> local_copy(const std::string& content);
  /// What is being brought here ends in kCancelled soon, and so does what is asked for from now on. For good:
  /// an engine stops its origins when it shuts down.
  virtual void stop() noexcept {}

  /// To examine an adapter without bringing it here. kUnsupported where it must be localized for that.
  [[nodiscard]] virtual Result<RemoteView> view(const std::string& uri);
};

/// Paths and file:// URIs: file:///srv/adapters, percent-encoded where need be; the host is empty or localhost.
[[nodiscard]] std::unique_ptr<Origin> make_file_origin();

/// One adapter, one spelling: "s3://bucket/key" of "s3://bucket/key//". "/" and "s3://" stay what they are.
[[nodiscard]] std::string_view without_trailing_slashes(std::string_view uri) noexcept;

/// "s3" of "s3://bucket/key"; empty for a plain path.
[[nodiscard]] std::string_view scheme_of(std::string_view uri) noexcept;

/// The origin of the URI's scheme. Errors: kUnsupported names the schemes there are.
[[nodiscard]] Result<Origin*> origin_of(std::span<Origin* const> origins, const std::string& uri);

/// Asks the origin of the URI's scheme.
[[nodiscard]] Result<LocalCopy> localize(std::span<Origin* const> origins, const std::string& uri);
[[nodiscard]] Result<LocalCopy> localize_content(std::span<Origin* const> origins, const std::string& uri,
                                                 const std::string& content);

}  // namespace loracle
