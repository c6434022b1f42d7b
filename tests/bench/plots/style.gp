# style.gp    what all figures share: size, letters, colours that stay apart in print and for colour-blind readers
set datafile separator "\t"
set key autotitle columnheader
set border 3 lc rgb '#555555'
set tics nomirror textcolor rgb '#333333'
set grid lc rgb '#dddddd' lw 0.7
set key textcolor rgb '#222222'
set linetype 1 lc rgb '#0072b2' lw 2 pt 7 ps 0.6
set linetype 2 lc rgb '#d55e00' lw 2 pt 5 ps 0.6
set linetype 3 lc rgb '#009e73' lw 2 pt 9 ps 0.7
set linetype 4 lc rgb '#cc79a7' lw 2 pt 11 ps 0.7
set linetype 5 lc rgb '#e69f00' lw 2 pt 13 ps 0.7
set linetype 6 lc rgb '#56b4e9' lw 2 pt 6 ps 0.6
set linetype 7 lc rgb '#000000' lw 2 pt 4 ps 0.6
set linetype 8 lc rgb '#999999' lw 2 pt 8 ps 0.7
set linetype 9 lc rgb '#8c6d31' lw 2 pt 10 ps 0.7
