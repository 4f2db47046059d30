package engine

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are picked below the range from which the system takes ports for outgoing connections (32768 and up on Linux,
// 49152 on macOS). Above it, a client that redials a dead server on loopback can be given the server's own port as its
// source, connect to itself, and keep the server from coming back.
const (
	lowestPort  = 15000
	highestPort = 31999
)

var ports = struct {
	sync.Mutex
	given map[int]bool // never given twice by this process
}{given: map[int]bool{}}

// freePort returns a loopback port that nobody listens on and that this process has not given out before. Another
// process may still take it first; whoever starts a server must be ready to choose again.
func freePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		if !ports.given[port] && portIsFree(port) {
			ports.given[port] = true
			return port, nil
		}
	}
	return 0, errors.New("find a free loopback port: 1000 attempts were in vain")
}

// FreeAddr returns host:port on loopback for a server that is to have the same over restarts; nobody listens there now.
func FreeAddr() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	return loopback(port), nil
}

func portIsFree(port int) bool {
	l, err := net.Listen("tcp4", loopback(port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
