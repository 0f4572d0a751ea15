//go:build !linux

package connections

import (
	"net"
	"time"
)

// setUnreadTimeout does nothing where the kernel has no such timeout.
func setUnreadTimeout(*net.TCPConn, time.Duration) {}
