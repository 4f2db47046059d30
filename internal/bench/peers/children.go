package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// child is a server that runs as a process of its own.
type child struct {
	cmd  *exec.Cmd
	log  string
	gone chan struct{}
	err  error // of the process, once gone is closed
}

// spawn starts a program.
func spawn(dir string, as *syscall.Credential, program string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(program, args...), log: filepath.Join(dir, "peer.log"), gone: make(chan struct{})}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	defer log.Close()
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.Dir = log, log, dir
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() { c.err = c.cmd.Wait(); close(c.gone) }()
	return c, nil
}

// startChild starts a program and waits until something listens on the port.
func startChild(ctx context.Context, dir string, port int, as *syscall.Credential, program string, args ...string) (*child, error) {
	c, err := spawn(dir, as, program, args...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp4", loopback(port)); err == nil {
			return c, conn.Close()
		}
		select {
		case <-c.gone:
			return nil, fmt.Errorf("start %s: %w: %s", program, c.err, c.said())
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("start %s: %w: %s", program, ctx.Err(), c.said()), c.stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// said returns the end of what the server printed.
func (c *child) said() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(b[max(0, len(b)-600):]))
}

// stop ends the process, by force when it does not go by itself.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGINT) // it may be gone already
	select {
	case <-c.gone:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.gone
	}
	return nil
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// freePort returns a port of loopback that nothing listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("look for a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// startSelf starts this program as the server of a peer that it embeds.
func startSelf(ctx context.Context, dir, peer string) (server *child, port int, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, 0, fmt.Errorf("find this program: %w", err)
	}
	if port, err = freePort(); err != nil {
		return nil, 0, err
	}
	server, err = startChild(ctx, dir, port, nil, program, "-serve", peer, "-dir", dir, "-port", strconv.Itoa(port))
	return server, port, err
}
