// Client of `fastcell serve RUN --socket PATH` for programs that acquire images; docs/guides/live.md describes the bytes.
//   g++ -std=c++17 -O2 -o live_client live_client.cpp && ./live_client PATH WIDTH HEIGHT < cells.raw
// Reads 8-bit cells of one size from stdin and prints id, class, its probability, flags and microseconds of each.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct Frame { uint32_t length; uint16_t width, height; uint8_t bits, zero; uint16_t zeros; float um_per_px; uint64_t id, time; };
struct Answer { uint32_t length; uint16_t status, flags; uint64_t id, time; int32_t label; float unlike_score; uint32_t spent_us, queue; };
static_assert(sizeof(Frame) == 32 && sizeof(Answer) == 40, "the structures are the bytes of the protocol");

static void fail(const char* what) { std::fprintf(stderr, "%s\n", what); std::exit(1); }
static void put(int fd, const void* data, size_t size) {
  for (auto p = static_cast<const char*>(data); size;) {
    ssize_t n = ::send(fd, p, size, MSG_NOSIGNAL);
    if (n <= 0) fail("the server is gone");
    p += n, size -= n;
  }
}
static bool get(int fd, void* data, size_t size) {
  for (auto p = static_cast<char*>(data); size;) {
    ssize_t n = ::recv(fd, p, size, 0);
    if (n <= 0) return false;
    p += n, size -= n;
  }
  return true;
}

int main(int argc, char** argv) {
  if (argc != 4) fail("usage: live_client PATH WIDTH HEIGHT < cells.raw");
  int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address))) fail("no server at this path");
  put(fd, "FCELLS1\n\0\0", 10);  // magic, and a token of 0 bytes
  char magic[8]; uint32_t size;
  if (!get(fd, magic, 8) || std::memcmp(magic, "FCELLS1\n", 8) || !get(fd, &size, 4)) fail("no fastcell server");
  std::vector<char> welcome(size);
  if (!get(fd, welcome.data(), size)) fail("the greeting is cut");
  uint16_t num; std::memcpy(&num, welcome.data(), 2);
  std::vector<std::string> classes;
  for (size_t at = 8; classes.size() < num;) {
    uint16_t n; std::memcpy(&n, &welcome[at], 2);
    classes.emplace_back(&welcome[at + 2], n), at += 2 + n;
  }
  uint16_t width = std::atoi(argv[2]), height = std::atoi(argv[3]);
  std::thread sender([&] {
    std::vector<char> cell(size_t(width) * height);
    for (uint64_t id = 0; std::fread(cell.data(), 1, cell.size(), stdin) == cell.size(); id++) {
      Frame frame{uint32_t(28 + cell.size()), width, height, 8, 0, 0, 0.0f, id, 0};
      put(fd, &frame, sizeof frame), put(fd, cell.data(), cell.size());
    }
    ::shutdown(fd, SHUT_WR);  // the server sends the last answers, and closes
  });
  Answer answer; std::vector<float> p(num);
  while (get(fd, &answer, sizeof answer)) {
    if (answer.status > 2) fail(answer.status == 3 ? "the server refused a frame" : "the server has ended");
    if (!get(fd, p.data(), 4 * num)) fail("an answer is cut");
    const char* name = answer.label < 0 ? "-" : classes[answer.label].c_str();
    std::printf("%llu %s %.6f %u %u\n", (unsigned long long)answer.id, name, answer.label < 0 ? 0.0 : p[answer.label], answer.flags, answer.spent_us);
  }
  sender.join();
}
