//! FIFOs, splice and epoll.
