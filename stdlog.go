package coffeebuddy

import (
	"log"
	"log/slog"
	"strings"
)

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
