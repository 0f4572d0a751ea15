package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// registration is where coffeebuddy.go registers its features.
const registration = "\tif app, err = addSlack("

// build builds the program with one feature more, as its author would add it: a call in NewFunction, and a file. Without a
// feature there is nothing that fails, is sent again, or goes on after its answer.
func build(ctx context.Context, dir string) (program string, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	wiring := filepath.Join(root, "coffeebuddy.go")
	text, err := os.ReadFile(wiring)
	if err != nil {
		return "", err
	}
	before, after, found := strings.Cut(string(text), registration)
	if !found {
		return "", errors.New("coffeebuddy.go registers Slack in another way than this program knows")
	}
	changed := filepath.Join(dir, "coffeebuddy.go")
	call := "\tif err := addOrders(engine.Events); err != nil {\n\t\treturn nil, err\n\t}\n"
	if err := os.WriteFile(changed, []byte(before+call+registration+after), 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		wiring:                           changed,
		filepath.Join(root, "orders.go"): filepath.Join(root, "test", "dashboard", "live", "testdata", "orders.go"),
	}})
	if err != nil {
		return "", err
	}
	overlaid, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "function")
	if err := os.WriteFile(overlaid, overlay, 0o600); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-overlay", overlaid, "-o", program, "./function")
	command.Dir = root
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the function: %w: %s", err, output)
	}
	return program, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "coffeebuddy").Output()
	if err != nil {
		return "", fmt.Errorf("find the root module: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}
