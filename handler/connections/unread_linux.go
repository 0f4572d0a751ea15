package connections

import (
	"net"
	"syscall"
	"time"
)

// setUnreadTimeout sets TCP_USER_TIMEOUT (RFC 5482): how long data may stay
// unacknowledged, or a window closed, before the kernel ends the connection.
func setUnreadTimeout(c *net.TCPConn, timeout time.Duration) {
	const userTimeout = 18 // TCP_USER_TIMEOUT, which package syscall lacks
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, int(timeout.Milliseconds()))
	})
}
