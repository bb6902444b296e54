# sae_module(name LINKS other modules... LIBS system libraries...): every .c file of the current folder as one static
# library. The LINKS lines of all folders together are the include rule of the project (tests/unit/test_includes.sh).
function(sae_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;LIBS" ${ARGN})
  if(NOT ARG_SOURCES)
    file(GLOB ARG_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  endif()
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PUBLIC ${ARG_LINKS} PRIVATE ${ARG_LIBS} sae_flags)
endfunction()
