package engine

import (
	"fmt"
	"os"
	"path/filepath"
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

// ClickHouseHTTPAddr returns host:port of the HTTP protocol of the server in a folder, as of its last start, for a client in
// another process.
func ClickHouseHTTPAddr(dir string) (string, error) {
	path := filepath.Join(dir, "ports")
	_, http := readPorts(path)
	if http == 0 {
		return "", fmt.Errorf("%s does not name the ports of clickhouse: it has not started yet", path)
	}
	return loopback(http), nil
}
