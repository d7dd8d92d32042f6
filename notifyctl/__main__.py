from notifyctl.cli.main import main

main()
