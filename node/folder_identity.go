package node

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// bootFile has an id of this machine's run, which no other machine has, on Linux.
const bootFile = "/proc/sys/kernel/random/boot_id"

// folderIdentity tells a folder from all others there are now, on this machine and elsewhere: a copy has another identity, and
// so has what was restored or moved to another disk. A link to the folder, and the folder under another name, have its own. It
// is not for keeping: after a start of the machine it is another.
func folderIdentity(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("identify folder: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("identify folder %s: this system does not number its files", path)
	}
	machine, err := os.ReadFile(bootFile)
	if err != nil {
		name, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("identify folder: %w", err)
		}
		machine = []byte(name)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", strings.TrimSpace(string(machine)), stat.Dev, stat.Ino))
	return hex.EncodeToString(sum[:16]), nil
}
