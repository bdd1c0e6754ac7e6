// net/http on both sides, a thousand goroutines, a context that ends.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		total := 0
		for _, b := range body {
			total += int(b)
		}
		fmt.Fprintf(w, "%d", total)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	base := "http://" + listener.Addr().String()

	var wait sync.WaitGroup
	var lock sync.Mutex
	total := 0
	limit := make(chan struct{}, 64)
	for i := 0; i < 1000; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			limit <- struct{}{}
			defer func() { <-limit }()
			reader, writer := io.Pipe()
			go func() {
				for k := 0; k < 5; k++ {
					fmt.Fprintf(writer, "%d", i+k)
				}
				writer.Close()
			}()
			answer, err := http.Post(base+"/sum", "text/plain", reader)
			if err != nil {
				panic(err)
			}
			defer answer.Body.Close()
			n := 0
			fmt.Fscan(answer.Body, &n)
			lock.Lock()
			total += n
			lock.Unlock()
		}(i)
	}
	wait.Wait()
	fmt.Println("total", total)

	limited, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	request, _ := http.NewRequestWithContext(limited, "GET", base+"/slow", nil)
	_, err = http.DefaultClient.Do(request)
	fmt.Println("slow", err != nil, limited.Err())
	fmt.Println("shutdown", server.Shutdown(context.Background()))
}
