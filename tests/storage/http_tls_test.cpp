#include <gtest/gtest.h>
#include <httplib.h>

#include <cstdlib>
#include <thread>

#include "loracle/storage/provider.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::TempDir;

/// An https server on 127.0.0.1 with a certificate of its own for "localhost".
class TlsServer {
 public:
  explicit TlsServer(const TempDir& dir) : certificate_((dir / "cert.pem").string()) {
    const std::string key = (dir / "key.pem").string();
    const std::string command =
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "
        "subjectAltName=DNS:localhost -keyout " +
        key + " -out " + certificate_ + " 2>/dev/null";
    EXPECT_EQ(std::system(command.c_str()), 0) << "openssl could not make a certificate";
    server_ = std::make_unique<httplib::SSLServer>(certificate_.c_str(), key.c_str());
    server_->Get("/a", [](const httplib::Request&, httplib::Response& response) {
      response.set_header("ETag", "\"v1\"");
      response.set_content("hello, world", "application/octet-stream");
    });
    server_->Get("/away", [](const httplib::Request&, httplib::Response& response) {
      response.set_redirect("http://localhost/a");
    });
    port_ = server_->bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_->listen_after_bind(); });
  }
  ~TlsServer() {
    while (!server_->is_running()) std::this_thread::yield();
    server_->stop();
    thread_.join();
  }
  TlsServer(const TlsServer&) = delete;
  TlsServer& operator=(const TlsServer&) = delete;

  [[nodiscard]] const std::string& certificate() const noexcept { return certificate_; }
  [[nodiscard]] std::string url(const std::string& host, const std::string& path) const {
    return "https://" + host + ":" + std::to_string(port_) + path;
  }

 private:
  std::string certificate_;
  std::unique_ptr<httplib::SSLServer> server_;
  std::thread thread_;
  int port_ = 0;
};

Result<StoredObject> stat(const std::string& url, const std::string& ca_file) {
  HttpStorageOptions options;
  options.allow_private_addresses = true;
  options.allow_http = true;
  options.allowed_hosts = {"localhost", "127.0.0.1"};
  options.ca_file = ca_file;
  options.retry.attempts_max = 2;
  options.retry.first_delay_ms = 1;
  auto provider = make_http_storage("https", options);
  EXPECT_TRUE(provider);
  return (*provider)->stat(url);
}

// If this failed, anybody between us and a server could put adapters of their own in its place.
TEST(HttpTls, OnlyACertificateThatIsTrustedAndNamesTheHostWillDo) {
  const TempDir dir;
  const TlsServer server(dir);
  const auto good = stat(server.url("localhost", "/a"), server.certificate());
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(good->size, 12U);
  const auto unknown = stat(server.url("localhost", "/a"), "");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Errc::kIo);
  EXPECT_NE(unknown.error().message.find("certificate"), std::string::npos) << unknown.error().message;
  EXPECT_EQ(unknown.error().message.find("attempts"), std::string::npos) << "it will be no better next time";
  const auto another = stat(server.url("127.0.0.1", "/a"), server.certificate());
  ASSERT_FALSE(another);
  EXPECT_EQ(another.error().code, Errc::kIo);
}

// If this failed, a redirect would take the protection away that https was chosen for.
TEST(HttpTls, ARedirectToPlainHttpIsRefused) {
  const TempDir dir;
  const TlsServer server(dir);
  const auto away = stat(server.url("localhost", "/away"), server.certificate());
  ASSERT_FALSE(away);
  EXPECT_EQ(away.error().code, Errc::kInvalid) << away.error().message;
  EXPECT_NE(away.error().message.find("plain http"), std::string::npos) << away.error().message;
}

}  // namespace
}  // namespace loracle
