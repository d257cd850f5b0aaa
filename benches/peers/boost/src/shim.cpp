// What Rust calls of boost::interprocess::message_queue. No exception leaves here.
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>

#include <cstddef>
#include <cstdio>

using boost::interprocess::message_queue;

namespace {

// Done, not now, or failed with a reason.
constexpr int done = 0;
constexpr int not_now = 1;
constexpr int failed = 2;

template <typename Action>
int guarded(char *why, std::size_t len, Action action) {
    try {
        return action() ? done : not_now;
    } catch (const std::exception &error) {
        std::snprintf(why, len, "%s", error.what());
    } catch (...) {
        std::snprintf(why, len, "it threw what is no exception");
    }
    return failed;
}

}  // namespace

extern "C" {

unsigned shim_boost_version() { return BOOST_VERSION; }

int shim_create(const char *name, std::size_t count, std::size_t size, message_queue **queue, char *why,
                std::size_t len) {
    return guarded(why, len, [&] {
        *queue = new message_queue(boost::interprocess::create_only, name, count, size);
        return true;
    });
}

int shim_open(const char *name, message_queue **queue, char *why, std::size_t len) {
    return guarded(why, len, [&] {
        *queue = new message_queue(boost::interprocess::open_only, name);
        return true;
    });
}

int shim_remove(const char *name) { return message_queue::remove(name) ? done : failed; }

void shim_close(message_queue *queue) { delete queue; }

int shim_send(message_queue *queue, const void *message, std::size_t size, bool waits, char *why,
              std::size_t len) {
    return guarded(why, len, [&] {
        if (!waits) {
            return queue->try_send(message, size, 0);
        }
        queue->send(message, size, 0);
        return true;
    });
}

int shim_receive(message_queue *queue, void *buffer, std::size_t room, std::size_t *size, bool waits, char *why,
                 std::size_t len) {
    return guarded(why, len, [&] {
        unsigned priority = 0;
        message_queue::size_type found = 0;
        bool received = true;
        if (waits) {
            queue->receive(buffer, room, found, priority);
        } else {
            received = queue->try_receive(buffer, room, found, priority);
        }
        *size = found;
        return received;
    });
}

}
