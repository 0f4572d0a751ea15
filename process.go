package coffeebuddy

import (
	"log"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
)

// processStart returns when the process started, to a hundredth of a second, as
// Linux has it: what ran before main counts towards a cold start. Where that
// cannot be read it returns the time of the call.
func processStart() time.Time {
	now := time.Now()
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return now
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return now
	}
	// The second field is the program's name in brackets and may hold anything;
	// the start time is the 20th field after it, in ticks since boot.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	up, _, _ := strings.Cut(string(uptime), " ")
	if len(fields) < 20 {
		return now
	}
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux that Go runs on
	ticks, err := strconv.ParseFloat(fields[19], 64)
	if err != nil {
		return now
	}
	seconds, err := strconv.ParseFloat(up, 64)
	if err != nil {
		return now
	}
	age := time.Duration((seconds - ticks/ticksPerSecond) * float64(time.Second))
	if age < 0 { // a container with an uptime of its own
		return now
	}
	return now.Add(-age)
}

// adoptStandardLog sends what libraries write to the standard logger to ours, as
// JSON lines. One line of net/http's client is cut: it quotes what a server sent
// unasked, and a server that echoes would have the token in the log.
func adoptStandardLog(to *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(standardLog{to})
}

type standardLog struct{ to *slog.Logger }

func (s standardLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if strings.HasPrefix(text, "Unsolicited response received on idle HTTP channel") {
		text = "a server sent what it was not asked for"
	}
	s.to.Info("from the standard logger", "text", text)
	return len(line), nil
}
