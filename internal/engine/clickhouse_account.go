package engine

import (
	"fmt"
	"os"
)

// ClickHouseAccount returns the application's account of the server in a folder, for a client that is made before the
// server is started. The folder and the password are made if there are none; the server keeps to them.
func ClickHouseAccount(dir string) (user, password string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("make the engine's folder: %w", err)
	}
	password, err = keepPassword(dir)
	return clickHouseUser, password, err
}
